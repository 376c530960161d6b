import pytest
import torch
from rendering.scenes import assert_same, cameras, lumpy, sphere

from kpose.rendering import CompositeRenderer, WarpRenderer
from kpose.structures import Mesh

pytest.importorskip("warp", reason="NVIDIA Warp is not installed: pip install warp-lang")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("sigma", [1e-5, 1e-4, 1e-2])
@pytest.mark.parametrize("size", [24, 64, (17, 40)])
def test_mask_and_gradients_are_those_of_torch(sigma, size, cull):
    assert_same(lumpy(3), cameras(3), size, sigma, cull)


@pytest.mark.parametrize("size", [1, (2, 3), 3, (1, 20), (20, 1), 100])
def test_any_size_of_image_and_of_face(size):
    assert_same(sphere(0), cameras(4), size, 1e-2)
    assert_same(Mesh(10 * sphere(0).vertices, sphere(0).faces), cameras(2), size, 1e-3)


@pytest.mark.usefixtures("two_threads")
def test_threads_and_shared_vertices():
    mesh, camera = lumpy(3, 1), cameras(3, 7)
    assert_same(mesh, camera, 24, 1e-4)
    assert_same(sphere(), cameras(13), 24, 1e-4)
    plain, compiled = (maker(1e-4).render(mesh, camera, 24) for maker in (CompositeRenderer, WarpRenderer))
    assert torch.equal(plain.face_index, compiled.face_index)
