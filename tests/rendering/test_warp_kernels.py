import pytest
import torch
from rendering.scenes import IDENTITY, assert_same, cameras, lumpy, read_golden, sphere

from kpose.rendering import HardRenderer, WarpRenderer
from kpose.rendering import warp as module
from kpose.structures import Mesh

pytest.importorskip("warp", reason="NVIDIA Warp is not installed: pip install warp-lang")


@pytest.fixture
def unordered(monkeypatch):
    """Draw as on CUDA: faces in any order, pixel by pixel."""
    monkeypatch.setattr(module, "_is_parallel", lambda vertices, num_pixels: True)


@pytest.mark.usefixtures("unordered")
def test_any_order_of_faces():
    assert_same(lumpy(2), cameras(2), (20, 30), 1e-3)
    assert_same(sphere(0), cameras(2), 9, 1e-2, cull=True)


@pytest.mark.parametrize(("sigma", "tolerance"), [("0.0001", 1e-5), ("1e-05", 2.5e-5)])
def test_silhouette_and_gradient_agree_with_pytorch3d(sigma, tolerance):
    golden = read_golden()
    vertices = (golden["projected"] - torch.tensor([0.0, 0.0, 5.0])).requires_grad_()
    mask = WarpRenderer(float(sigma)).silhouette(Mesh(vertices, golden["faces"].long()), IDENTITY, 48)
    expected = golden[f"sigma_{sigma}_alpha"]
    torch.testing.assert_close(mask, expected, atol=tolerance, rtol=0)
    assert (mask - expected).abs().mean() < 1e-7
    (mask * golden[f"sigma_{sigma}_weight"]).sum().backward()
    gradient = golden[f"sigma_{sigma}_grad"]
    assert (vertices.grad[..., :2] - gradient).norm() < 1e-4 * gradient.norm()
    assert (vertices.grad[..., :2] - gradient).abs().max() < 1e-4 * gradient.abs().max()


def test_z_buffer_agrees_with_pytorch3d():
    golden = read_golden()
    vertices = golden["projected"] - torch.tensor([0.0, 0.0, 5.0])
    mesh = Mesh(vertices, golden["faces"].long())
    rendering = WarpRenderer().render(mesh, IDENTITY, 48)
    same = rendering.face_index == golden["hard_face"]
    assert (~same).sum() <= 1, "all pixels but ties"
    same &= rendering.face_index >= 0
    torch.testing.assert_close(rendering.barycentrics[same], golden["hard_bary"][same], atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", [7, 16, 33])
def test_neighboring_faces_leave_no_cracks(size):
    line = (2 * torch.arange(size) + 1) / size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    index = torch.arange(size * size).view(size, size)
    a, b, c, d = (part.flatten() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    faces = torch.cat((torch.stack((a, c, b), -1), torch.stack((b, c, d), -1)))
    mesh = Mesh(torch.stack((x, y, torch.zeros_like(x)), -1).view(-1, 3), faces)
    face = WarpRenderer().render(mesh, IDENTITY, size).face_index
    assert torch.equal(face, HardRenderer().render(mesh, IDENTITY, size).face_index)
    assert face.min() >= 0


def test_faces_are_checked():
    mesh = sphere(0)
    for wrong in (-1, 12):
        faces = mesh.faces.clone()
        faces[3, 1] = wrong
        with pytest.raises(ValueError, match="12 vertices"):
            WarpRenderer().silhouette(mesh._replace(faces=faces), IDENTITY, 8)
    with pytest.raises(ValueError, match="finite vertices"):
        WarpRenderer().silhouette(mesh._replace(vertices=mesh.vertices * torch.nan), IDENTITY, 8)
