import pytest
import torch
from rendering.scenes import cameras, colored, lumpy, textured

from kpose.rendering import CompositeRenderer, HardRenderer, SoftRenderer, fast_renderer
from kpose.structures import Camera

RENDERERS = [HardRenderer(), CompositeRenderer(1e-3), SoftRenderer(1e-3, 1e-2), fast_renderer(1e-3)]


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: type(r).__name__)
def test_batch_equals_loop_with_cameras_broadcast_over_meshes(renderer):
    mesh, camera = colored(lumpy(2, 1)), cameras(2, 3)
    together = renderer.render(mesh, camera, 16)
    assert together.rgb.shape == (2, 3, 3, 16, 16)
    for b in range(2):
        for p in range(3):
            alone = renderer.render(
                mesh._replace(vertices=mesh.vertices[b, 0], vertex_colors=mesh.vertex_colors[b, 0]),
                Camera(*(part[b, p] for part in camera)),
                16,
            )
            for one, other in zip(alone, together, strict=True):
                torch.testing.assert_close(one, other[b, p])
    torch.testing.assert_close(renderer.silhouette(mesh, camera, 16), together.mask)


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("max_pairs", [300, 3000])
def test_bounded_memory_changes_nothing(renderer, max_pairs):
    mesh, camera = textured(lumpy(4), 8, 16), cameras(4)
    bounded = type(renderer)(max_pairs=max_pairs)
    usual = type(renderer)()
    results = []
    for one in (usual, bounded):
        vertices = mesh.vertices.clone().requires_grad_()
        texture = mesh.texture.clone().requires_grad_()
        rendering = one.render(mesh._replace(vertices=vertices, texture=texture), camera, 12)
        loss = rendering.rgb.square().sum() + rendering.mask.sum() + rendering.depth.clamp_max(10).sum()
        results.append((*rendering, *torch.autograd.grad(loss, (vertices, texture))))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
