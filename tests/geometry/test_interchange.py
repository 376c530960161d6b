"""Points are projected by each library's documented formula, and must land where kpose's camera puts them."""

import pytest
import torch

from kpose.geometry import project, random_rotation, to_blender, to_opencv, to_pytorch3d
from kpose.structures import Camera

SIZES = [(80, 120), (130, 90), (64, 64)]


def scene(seed: int = 0, batch: tuple[int, ...] = ()) -> tuple[Camera, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    draw = {"generator": generator, "dtype": torch.float64}
    scale = 20 + 30 * torch.rand(batch, **draw)
    camera = Camera(scale, 100 * torch.rand((*batch, 2), **draw), random_rotation(batch, **draw))
    return camera, torch.rand((*batch, 40, 3), **draw) - 0.5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_opencv_by_its_formula(size, batch):
    camera, points = scene(batch=batch)
    found = to_opencv(camera, size)
    seen = (points @ found.rotation.mT + found.translation[..., None, :]) @ found.matrix.mT
    assert (seen[..., 2] > 0).all()
    expected = project(points, camera)
    middle = expected.new_tensor([size[1] / 2, size[0] / 2])
    depth = camera.scale[..., None] * (points @ camera.rotation.mT)[..., 2]
    seen = seen[..., :2] / seen[..., 2:] + 0.5  # OpenCV counts from the first pixel's center
    bound = 1.01 * (expected - middle).norm(dim=-1) * depth.abs() / (1000 * max(size)) + 1e-9
    assert ((seen - expected).norm(dim=-1) <= bound).all()


@pytest.mark.parametrize("size", SIZES)
def test_opencv_itself(size):
    cv2 = pytest.importorskip("cv2", reason="OpenCV is in the extra benchmark")
    camera, points = scene(1)
    found = to_opencv(camera, size, focal=1e7)
    vector, _ = cv2.Rodrigues(found.rotation.numpy())
    seen, _ = cv2.projectPoints(points.numpy(), vector, found.translation.numpy(), found.matrix.numpy(), None)
    torch.testing.assert_close(torch.from_numpy(seen)[:, 0] + 0.5, project(points, camera), atol=1e-3, rtol=0)


def test_a_longer_focal_length_is_closer():
    camera, points = scene(2)
    errors = []
    for focal in (1e3, 1e4, 1e5):
        found = to_opencv(camera, (80, 120), focal=focal)
        seen = (points @ found.rotation.mT + found.translation) @ found.matrix.mT
        errors.append((seen[:, :2] / seen[:, 2:] + 0.5 - project(points, camera)).abs().max().item())
    assert errors[0] > 8 * errors[1] > 64 * errors[2]
    with pytest.raises(ValueError, match="positive focal length"):
        to_opencv(camera, (80, 120), focal=0.0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_pytorch3d_by_its_formula(size, batch):
    camera, points = scene(3, batch)
    height, width = size
    found = to_pytorch3d(camera, size)
    view = points.reshape(-1, 40, 3) @ found.R + found.T[:, None]
    ndc = view[..., :2] * found.focal_length[:, None] + found.principal_point[:, None]
    # docs/notes/cameras.md: +x left, +y up, the shorter side spans [-1, 1].
    seen = torch.stack((width / 2 - ndc[..., 0] * min(size) / 2, height / 2 - ndc[..., 1] * min(size) / 2), -1)
    torch.testing.assert_close(seen.reshape(*batch, 40, 2), project(points, camera))
    assert (view[..., 2] > 0).all()
    near = (points @ camera.rotation.mT)[..., 2].reshape(-1, 40)
    assert torch.equal(view[..., 2].argsort(-1), near.argsort(-1))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_blender_by_its_formula(size, batch):
    camera, points = scene(4, batch)
    height, width = size
    found = to_blender(camera, size)
    homogeneous = torch.cat((points, torch.ones_like(points[..., :1])), -1)
    local = (homogeneous @ torch.linalg.inv(found.matrix_world).mT)[..., :3]
    # view_frame of an orthographic camera, sensor fit 'AUTO': the longer side shows ortho_scale, shifts are in it.
    side, right, up = (part[..., None] for part in (found.ortho_scale, found.shift_x, found.shift_y))
    half_x, half_y = side / 2 * width / max(size), side / 2 * height / max(size)
    x = (local[..., 0] + half_x - right * side) / (2 * half_x)
    y = (local[..., 1] + half_y - up * side) / (2 * half_y)
    seen = torch.stack((x * width, (1 - y) * height), -1)
    torch.testing.assert_close(seen, project(points, camera))
    assert (local[..., 2] < 0).all()
    assert torch.allclose(torch.linalg.det(found.matrix_world), found.ortho_scale.new_ones(()))
