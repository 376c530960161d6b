"""Agreement of the compiled kernels with plain torch and with PyTorch3D."""

from pathlib import Path

import numpy as np
import pytest
import torch
from rendering.scenes import IDENTITY, cameras, colored, lumpy, sphere, textured

from kpose.rendering import CompositeRenderer, HardRenderer, fast_renderer
from kpose.rendering import warp as module
from kpose.rendering.warp import WarpRenderer
from kpose.structures import Camera, Mesh

GOLDEN = Path(__file__).parents[1] / "golden" / "pytorch3d_renders.npz"


pytest.importorskip("warp", reason="NVIDIA Warp is not installed: pip install warp-lang")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def unordered(monkeypatch):
    """Draw as on CUDA: faces in any order, pixel by pixel."""
    monkeypatch.setattr(module, "_is_parallel", lambda vertices, num_pixels: True)


def gradients(renderer, mesh, camera, size):
    """Give the mask, and gradients of a random sum of it with respect to vertices and camera."""
    inputs = [part.clone().requires_grad_() for part in (mesh.vertices, *camera)]
    mask = renderer.silhouette(mesh._replace(vertices=inputs[0]), Camera(*inputs[1:]), size)
    weight = torch.rand(mask.shape, generator=torch.Generator().manual_seed(3))
    return mask.detach(), torch.autograd.grad((mask * weight).sum(), inputs)


def assert_same(mesh, camera, size, sigma, cull=False):
    results = [
        gradients(maker(sigma, cull_back_faces=cull), mesh, camera, size)
        for maker in (CompositeRenderer, WarpRenderer)
    ]
    # At a sigma of 1e-5, float32 itself is worth 1.3e-5; at the others this is 5e-7.
    torch.testing.assert_close(results[1][0], results[0][0], atol=2e-5, rtol=0)
    for plain, compiled in zip(results[0][1], results[1][1], strict=True):
        if plain.any():
            assert torch.cosine_similarity(plain.flatten(), compiled.flatten(), dim=0) > 0.99999
        assert (plain - compiled).abs().max() <= 2e-4 * plain.abs().max()


@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("sigma", [1e-5, 1e-4, 1e-2])
@pytest.mark.parametrize("size", [24, 64, (17, 40)])
def test_mask_and_gradients_are_those_of_torch(sigma, size, cull):
    assert_same(lumpy(3), cameras(3), size, sigma, cull)


@pytest.mark.parametrize("size", [1, (2, 3), 3, (1, 20), (20, 1), 100])
def test_any_size_of_image_and_of_face(size):
    assert_same(sphere(0), cameras(4), size, 1e-2)
    assert_same(Mesh(10 * sphere(0).vertices, sphere(0).faces), cameras(2), size, 1e-3)


@pytest.mark.usefixtures("unordered")
def test_any_order_of_faces():
    assert_same(lumpy(2), cameras(2), (20, 30), 1e-3)
    assert_same(sphere(0), cameras(2), 9, 1e-2, cull=True)


@pytest.mark.usefixtures("two_threads")
def test_threads_and_shared_vertices():
    mesh, camera = lumpy(3, 1), cameras(3, 7)
    assert_same(mesh, camera, 24, 1e-4)
    assert_same(sphere(), cameras(13), 24, 1e-4)
    plain, compiled = (maker(1e-4).render(mesh, camera, 24) for maker in (CompositeRenderer, WarpRenderer))
    assert torch.equal(plain.face_index, compiled.face_index)


@pytest.mark.parametrize(("sigma", "tolerance"), [("0.0001", 1e-5), ("1e-05", 2.5e-5)])
def test_silhouette_and_gradient_agree_with_pytorch3d(sigma, tolerance):
    golden = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items()}
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
    golden = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items()}
    vertices = golden["projected"] - torch.tensor([0.0, 0.0, 5.0])
    mesh = Mesh(vertices, golden["faces"].long())
    rendering = WarpRenderer().render(mesh, IDENTITY, 48)
    same = rendering.face_index == golden["hard_face"]
    assert (~same).sum() <= 1, "all pixels but ties"
    same &= rendering.face_index >= 0
    torch.testing.assert_close(rendering.barycentrics[same], golden["hard_bary"][same], atol=1e-4, rtol=0)


@pytest.mark.parametrize("paint", [colored, textured], ids=["colours", "texture"])
def test_pictures_are_those_of_torch(paint):
    mesh, camera = paint(lumpy(3)), cameras(3)
    results = []
    for renderer in (CompositeRenderer(1e-4), WarpRenderer(1e-4)):
        vertices = mesh.vertices.clone().requires_grad_()
        rendering = renderer.render(mesh._replace(vertices=vertices), camera, 32)
        loss = rendering.rgb.square().sum() + rendering.depth.clamp_max(10).sum()
        results.append((*rendering, *torch.autograd.grad(loss, vertices)))
    assert torch.equal(results[0][2], results[1][2])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [7, 16, 33])
def test_neighbouring_faces_leave_no_cracks(size):
    line = (2 * torch.arange(size) + 1) / size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    index = torch.arange(size * size).view(size, size)
    a, b, c, d = (part.flatten() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]))
    faces = torch.cat((torch.stack((a, c, b), -1), torch.stack((b, c, d), -1)))
    mesh = Mesh(torch.stack((x, y, torch.zeros_like(x)), -1).view(-1, 3), faces)
    face = WarpRenderer().render(mesh, IDENTITY, size).face_index
    assert torch.equal(face, HardRenderer().render(mesh, IDENTITY, size).face_index)
    assert face.min() >= 0


def test_one_float_a_pixel_is_stored():
    mesh, camera, size = sphere(), cameras(6), 64
    stored = {}

    def store(tensor):
        stored[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
        vertices = mesh.vertices.clone().requires_grad_()
        WarpRenderer(1e-3).silhouette(mesh._replace(vertices=vertices), camera, size)
    small = 6 * mesh.vertices.numel() * 4 + mesh.faces.numel()
    assert 6 * size * size <= sum(stored.values()) <= 6 * size * size + small


def test_is_an_operation_that_torch_can_trace():
    vertices = lumpy(2).vertices.requires_grad_()
    torch.library.opcheck(module._cover, (vertices, sphere().faces, 8, 9, 1e-2, False))


def test_faces_are_checked():
    mesh = sphere(0)
    for wrong in (-1, 12):
        faces = mesh.faces.clone()
        faces[3, 1] = wrong
        with pytest.raises(ValueError, match="12 vertices"):
            WarpRenderer().silhouette(mesh._replace(faces=faces), IDENTITY, 8)
    with pytest.raises(ValueError, match="finite vertices"):
        WarpRenderer().silhouette(mesh._replace(vertices=mesh.vertices * torch.nan), IDENTITY, 8)


def test_double_precision_is_left_to_torch():
    mesh, camera = sphere(1, torch.float64), cameras(dtype=torch.float64)
    mask = WarpRenderer(1e-3).silhouette(mesh, camera, 8)
    assert torch.equal(mask, CompositeRenderer(1e-3).silhouette(mesh, camera, 8))


def test_the_fastest_is_chosen():
    renderer = fast_renderer(1e-3, cull_back_faces=True, max_pairs=99)
    assert isinstance(renderer, WarpRenderer)
    assert (renderer.sigma, renderer.cull_back_faces, renderer.max_pairs) == (1e-3, True, 99)
