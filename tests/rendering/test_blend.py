import math

import pytest
import torch
from rendering.scenes import IDENTITY, cameras, golden_mesh, lumpy, read_golden, sphere
from torch.nn.functional import softplus

from kpose.geometry import to_image_frame
from kpose.rendering import SoftRenderer
from kpose.structures import Camera


# At 1e-5, float32 itself is worth 1.3e-5: PyTorch3D's own values are that far from those of float64.
@pytest.mark.parametrize(("sigma", "tolerance"), [("0.0001", 1e-5), ("1e-05", 2.5e-5)])
def test_silhouette_and_gradient_agree_with_pytorch3d(sigma, tolerance):
    golden = read_golden()
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


def test_softmax_colors_agree_with_pytorch3d():
    golden = read_golden()
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
