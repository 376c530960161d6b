import pytest
import torch
from rendering.scenes import IDENTITY, cameras, colored, lumpy, sphere, textured

from kpose.rendering import CompositeRenderer, HardRenderer, SoftRenderer
from kpose.structures import Camera


@pytest.mark.parametrize("renderer", [SoftRenderer(0.5, 0.1), CompositeRenderer(0.5)], ids=["softmax", "composite"])
@pytest.mark.parametrize("paint", [colored, lambda mesh: textured(mesh, 3, 4)], ids=["colors", "texture"])
def test_color_gradient_by_finite_differences(renderer, paint):
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


def test_softmax_and_composite_show_the_nearest_color_inside():
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
