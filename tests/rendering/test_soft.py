import math
from pathlib import Path

import numpy as np
import pytest
import torch
from rendering.scenes import IDENTITY, cameras, colored, lumpy, sphere, textured
from torch.nn.functional import softplus

from kpose.geometry import to_image_frame
from kpose.rendering import CompositeRenderer, HardRenderer, SoftRenderer
from kpose.structures import Camera, Mesh

GOLDEN = Path(__file__).parents[1] / "golden" / "pytorch3d_renders.npz"


@pytest.fixture(scope="module")
def golden():
    return {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items()}


def golden_mesh(golden):
    return Mesh(golden["projected"] - torch.tensor([0.0, 0.0, 5.0]), golden["faces"].long())


# At 1e-5, float32 itself is worth 1.3e-5: PyTorch3D's own values are that far from those of float64.
@pytest.mark.parametrize(("sigma", "tolerance"), [("0.0001", 1e-5), ("1e-05", 2.5e-5)])
def test_silhouette_and_gradient_agree_with_pytorch3d(golden, sigma, tolerance):
    mesh = golden_mesh(golden)
    vertices = mesh.vertices.requires_grad_()
    mask = SoftRenderer(float(sigma)).silhouette(mesh._replace(vertices=vertices), IDENTITY, 48)
    expected = golden[f"sigma_{sigma}_alpha"]
    torch.testing.assert_close(mask, expected, atol=tolerance, rtol=0)
    assert (mask - expected).abs().mean() < 1e-7
    (mask * golden[f"sigma_{sigma}_weight"]).sum().backward()
    gradient = golden[f"sigma_{sigma}_grad"]
    assert (vertices.grad[..., :2] - gradient).norm() < 1e-4 * gradient.norm()
    assert (vertices.grad[..., :2] - gradient).abs().max() < 1e-4 * gradient.abs().max()


def test_softmax_colours_agree_with_pytorch3d(golden):
    mesh = golden_mesh(golden)._replace(vertex_colors=golden["colours"])
    rendering = SoftRenderer(1e-4, 1e-4, near=-4.0, far=5.0).render(mesh, IDENTITY, 48)
    expected = golden["soft_rgba"].movedim(-1, 1)
    torch.testing.assert_close(rendering.mask, expected[:, 3], atol=1e-5, rtol=0)
    torch.testing.assert_close(rendering.rgb, expected[:, :3], atol=2e-4, rtol=0)
    assert (rendering.rgb - expected[:, :3]).abs().mean() < 1e-6


def dense_mask(vertices, faces, size, sigma):
    """Every face at every pixel, by autograd alone."""
    a = vertices[faces][:, None, None, :, :2]
    edge = a.roll(-1, -2) - a
    line = (2 * torch.arange(size, dtype=a.dtype) + 1) / size - 1
    pixel = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)[None, :, :, None]
    along = (((pixel - a) * edge).sum(-1) / edge.square().sum(-1)).clamp(0, 1)
    squared = (a + along.unsqueeze(-1) * edge - pixel).square().sum(-1).amin(-1)
    cross = edge[..., 0] * (pixel - a)[..., 1] - edge[..., 1] * (pixel - a)[..., 0]
    inside = (cross > 0).all(-1) | (cross < 0).all(-1)
    signed = torch.where(inside, squared, -squared)
    near = signed > -sigma * math.log(1e4 - 1)
    return -torch.expm1(-(softplus(signed / sigma) * near).sum(0))


@pytest.mark.parametrize("sigma", [1e-5, 1e-3, 3e-2])
def test_agrees_with_every_face_at_every_pixel(sigma):
    mesh, camera = lumpy(dtype=torch.float64), cameras(dtype=torch.float64)
    weight = torch.rand(20, 20, dtype=torch.float64)
    results = []
    for sparse in (True, False):
        vertices = mesh.vertices.clone().requires_grad_()
        if sparse:
            mask = SoftRenderer(sigma).silhouette(mesh._replace(vertices=vertices), camera, 20)
        else:
            mask = dense_mask(to_image_frame(vertices, camera), mesh.faces, 20, sigma)
        results.append((mask, torch.autograd.grad((mask * weight).sum(), vertices)[0]))
    for sparse, dense in zip(*results, strict=True):
        torch.testing.assert_close(sparse, dense, atol=1e-9, rtol=1e-6)


def test_mask_gradient_by_finite_differences():
    mesh, camera = sphere(1, torch.float64), cameras(2, dtype=torch.float64)

    def mask(vertices, scale, translation, rotation):
        seen_by = Camera(scale, translation, rotation)
        # So wide a blur that no face enters or leaves it as the vertices move.
        return SoftRenderer(0.5).silhouette(mesh._replace(vertices=vertices), seen_by, 6)

    inputs = [part.clone().requires_grad_() for part in (mesh.vertices, *camera)]
    assert torch.autograd.gradcheck(mask, inputs, eps=1e-7, atol=1e-5, fast_mode=True)


@pytest.mark.parametrize("renderer", [SoftRenderer(0.5, 0.1), CompositeRenderer(0.5)], ids=["softmax", "composite"])
@pytest.mark.parametrize("paint", [colored, lambda mesh: textured(mesh, 3, 4)], ids=["colours", "texture"])
def test_colour_gradient_by_finite_differences(renderer, paint):
    mesh, camera = paint(sphere(1, torch.float64)), cameras(dtype=torch.float64)
    name = "texture" if mesh.vertex_colors is None else "vertex_colors"

    def rgb(vertices, values, rotation):
        seen = renderer.render(
            mesh._replace(**{"vertices": vertices, name: values}), camera._replace(rotation=rotation), 6
        )
        return seen.rgb

    inputs = [part.clone().requires_grad_() for part in (mesh.vertices, getattr(mesh, name), camera.rotation)]
    assert torch.autograd.gradcheck(rgb, inputs, eps=1e-7, atol=1e-4, fast_mode=True)


def test_mask_moves_with_the_object():
    mesh, camera = (
        lumpy(dtype=torch.float64),
        cameras(dtype=torch.float64)._replace(scale=torch.tensor(0.3).double()),
    )
    camera = camera._replace(translation=torch.zeros(2, dtype=torch.float64))
    still = SoftRenderer(1e-3).silhouette(mesh, camera, 16)
    shift = torch.tensor([2 * 2 / 16, -3 * 2 / 16], dtype=torch.float64)
    moved = SoftRenderer(1e-3).silhouette(mesh, camera._replace(translation=shift), 16)
    torch.testing.assert_close(moved, still.roll((-3, 2), (0, 1)), atol=1e-9, rtol=0)


def test_small_sigma_gives_the_hard_mask():
    mesh, camera = lumpy(3), cameras(3)
    rendering = SoftRenderer(1e-9).render(mesh, camera, 32)
    hard = HardRenderer().render(mesh, camera, 32)
    assert (rendering.mask - hard.mask).abs().mean() < 1e-3
    for one, other in zip(rendering[1:4], hard[1:4], strict=True):
        torch.testing.assert_close(one, other)


def test_softmax_and_composite_show_the_nearest_colour_inside():
    mesh, camera = colored(lumpy(2)), cameras(2)
    hard = HardRenderer().render(mesh, camera, 24)
    composite = CompositeRenderer(1e-5).render(mesh, camera, 24)
    torch.testing.assert_close(composite.rgb, composite.mask.unsqueeze(1) * hard.rgb)
    softmax = SoftRenderer(1e-5, 1e-6).render(mesh, camera, 24)
    torch.testing.assert_close(softmax.mask, composite.mask)
    inside = (softmax.mask * hard.mask) > 0.999
    difference = (softmax.rgb - hard.rgb).abs().amax(1)[inside]
    assert difference.quantile(0.9) < 0.05


def test_silhouette_fit_moves_a_camera_to_the_target():
    mesh = sphere()
    target = SoftRenderer(1e-4).silhouette(mesh, IDENTITY._replace(scale=torch.tensor(0.6)), 32)
    scale = torch.tensor(0.4, requires_grad=True)
    translation = torch.tensor([0.2, -0.15], requires_grad=True)
    optimizer = torch.optim.Adam([scale, translation], lr=0.02)
    for _ in range(40):
        mask = SoftRenderer(1e-3).silhouette(mesh, Camera(scale, translation, torch.eye(3)), 32)
        loss = (mask - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert translation.abs().max() < 0.02
    assert abs(scale.item() - 0.6) < 0.06


def test_settings_are_checked():
    with pytest.raises(ValueError, match="positive sigma; got 0"):
        CompositeRenderer(0.0)
    with pytest.raises(ValueError, match="near < far"):
        SoftRenderer(near=2.0, far=1.0)
    with pytest.raises(ValueError, match="gamma > 0"):
        SoftRenderer(gamma=0.0)
