"""The contract of renderers."""

import math

import torch
from torch import Tensor

from kpose.geometry import mask_iou, random_rotation
from kpose.rendering import HardRenderer, Renderer
from kpose.structures import Camera, Mesh, Rendering
from kpose.templates import bird
from kpose.testing.expect import Expect, expecting

__all__ = ["check_renderer"]

_SIZE = (48, 64)


def check_renderer(renderer: Renderer) -> None:
    """Check that a renderer keeps the contract of `Renderer`.

    Images have the broadcast leading dimensions and the size; masks and colors are in [0, 1]; there is a depth, and
    barycentric coordinates that sum to one, where there is a face, and nowhere else; the silhouette is that of the
    z-buffer and what `silhouette` draws; a mesh is drawn alone as in a batch; an object outside the image leaves it
    empty; vertices that are not finite and two appearances are refused.

    Args:
        renderer: Renderer.

    Raises:
        AssertionError: If the renderer breaks a rule; the message names it.

    Example:
        >>> check_renderer(HardRenderer())
    """
    expect = expecting("A renderer")
    mesh, camera = _scene()
    with torch.no_grad():
        found = renderer.render(mesh, camera, _SIZE)
        _check_images(expect, found, (2, 3))
        _check_silhouette(expect, renderer, mesh, camera, found.mask)
        one = Mesh(mesh.vertices[1, 0], mesh.faces)
        alone = renderer.render(one, camera.at((1, 2)), _SIZE).mask
        expect(torch.allclose(alone, found.mask[1, 2], atol=1e-4), "the same image of a mesh alone and in a batch")
        gone = renderer.render(mesh, camera._replace(translation=camera.translation + 9), _SIZE)
        expect(bool((gone.mask == 0).all() & (gone.face_index == -1).all()), "an empty image of what is outside")
        _check_colors(expect, renderer, mesh, camera)
    broken = mesh._replace(vertices=mesh.vertices.index_fill(-2, torch.tensor([0]), math.nan))
    _expect_refusal(expect, renderer, broken, camera, "a ValueError for vertices that are not finite")


def _scene() -> tuple[Mesh, Camera]:
    """Two shapes, each seen by three cameras."""
    generator = torch.Generator().manual_seed(0)
    vertices = bird().vertices * torch.tensor([1.0, 1.3]).view(2, 1, 1, 1)
    camera = Camera(
        torch.full((2, 3), 0.5),
        0.2 * torch.randn(2, 3, 2, generator=generator),
        random_rotation((2, 3), generator=generator),
    )
    return Mesh(vertices, bird().faces), camera


def _check_images(expect: Expect, found: Rendering, batch: tuple[int, ...]) -> None:
    for name, inner in (("mask", ()), ("depth", ()), ("face_index", ()), ("barycentrics", (3,))):
        shape, wanted = tuple(getattr(found, name).shape), (*batch, *_SIZE, *inner)
        expect(
            shape == wanted, f"a `{name}` of the broadcast leading dimensions and the size, {wanted}; got {shape}"
        )
    expect(bool((found.mask >= 0).all() & (found.mask <= 1).all()), "masks in [0, 1]")
    hit = found.face_index >= 0
    expect(torch.equal(hit, found.depth.isfinite()), "a finite depth where there is a face and nowhere else")
    total = found.barycentrics.sum(-1)
    close = torch.allclose(total, hit.to(total), atol=1e-3)
    expect(close, "barycentric coordinates that sum to one where there is a face and are zero elsewhere")


def _check_silhouette(expect: Expect, renderer: Renderer, mesh: Mesh, camera: Camera, mask: Tensor) -> None:
    drawn = renderer.silhouette(mesh, camera, _SIZE)
    expect(torch.allclose(drawn, mask, atol=1e-4), "a `silhouette` that is the mask of `render`")
    overlap = mask_iou(mask, HardRenderer().silhouette(mesh, camera, _SIZE), soft=False).min()
    expect(overlap > 0.9, f"the silhouettes of the z-buffer; the worst overlap is {overlap:.2f}")


def _check_colors(expect: Expect, renderer: Renderer, mesh: Mesh, camera: Camera) -> None:
    colored = mesh._replace(vertex_colors=torch.full_like(mesh.vertices, 0.5))
    template = bird()
    texture = torch.full((2, 1, 3, 4, 8), 0.5)
    textured = mesh._replace(uv=template.uv, uv_faces=template.uv_faces, texture=texture)
    for painted in (colored, textured):
        found = renderer.render(painted, camera, _SIZE)
        expect(found.rgb is not None, "an `rgb` of meshes that have an appearance")
        assert found.rgb is not None
        expect(found.rgb.shape == (2, 3, 3, *_SIZE), f"an `rgb` with three channels; got {tuple(found.rgb.shape)}")
        sound = (found.rgb >= 0).all() & (found.rgb <= 1 + 1e-5).all()
        expect(bool(sound), "colors in [0, 1]")
        inside = (found.mask > 0.99)[:, :, None].expand_as(found.rgb)
        expect(bool(((found.rgb - 0.5).abs()[inside] < 0.02).all()), "the colors of the mesh")
    both = textured._replace(vertex_colors=colored.vertex_colors)
    _expect_refusal(expect, renderer, both, camera, "a ValueError for a mesh with two appearances")


def _expect_refusal(expect: Expect, renderer: Renderer, mesh: Mesh, camera: Camera, rule: str) -> None:
    try:
        renderer.render(mesh, camera, _SIZE)
    except ValueError:
        return
    expect(False, rule)
