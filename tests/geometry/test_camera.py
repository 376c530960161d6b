import itertools
import math

import pytest
import torch
from torch import Tensor

from kpose.geometry import (
    apply_crop,
    box_to_crop,
    crop_camera,
    flip_camera,
    normalized_to_pixels,
    perspective_to_weak,
    pixels_to_normalized,
    project,
    project_perspective,
    random_rotation,
    to_image_frame,
    uncrop_camera,
    undo_crop,
    weak_to_perspective,
)
from kpose.structures import Camera, PerspectiveCamera


def cameras(*batch: int, seed: int = 0) -> Camera:
    generator = torch.Generator().manual_seed(seed)
    return Camera(
        0.5 + torch.rand(batch, generator=generator, dtype=torch.float64),
        torch.randn((*batch, 2), generator=generator, dtype=torch.float64),
        random_rotation(batch, generator=generator, dtype=torch.float64),
    )


def points(*batch: int, count: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn((*batch, count, 3), generator=generator, dtype=torch.float64)


def boxes(*batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    corner = 100 * torch.rand((*batch, 2), generator=generator, dtype=torch.float64)
    side = 20 + 100 * torch.rand((*batch, 1), generator=generator, dtype=torch.float64)
    return torch.cat((corner, corner + side), -1)


def assert_same_camera(first: Camera, second: Camera) -> None:
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
def test_projection_is_the_formula(batch: tuple[int, ...]):
    camera, vertices = cameras(*batch), points(*batch)
    view = torch.einsum("...ij,...nj->...ni", camera.rotation, vertices)
    expected = camera.scale[..., None, None] * view[..., :2] + camera.translation[..., None, :]
    torch.testing.assert_close(project(vertices, camera), expected)
    image = to_image_frame(vertices, camera)
    torch.testing.assert_close(image[..., :2], expected)
    torch.testing.assert_close(image[..., 2], camera.scale[..., None] * view[..., 2])


def test_convention_y_is_down_and_z_away():
    camera = Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3))
    below, far = to_image_frame(torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), camera)
    assert pixels_to_normalized(torch.tensor([0.0, 10.0]), (10, 10))[1] > 0  # the bottom row has positive y
    assert below[1] > 0
    assert far[2] > 0


def test_convention_points_are_rows():
    camera = cameras()
    vertices = points()
    one = camera.rotation @ vertices[0]
    torch.testing.assert_close(
        to_image_frame(vertices, camera._replace(scale=torch.tensor(1.0).double()))[0, 2], one[2]
    )


def test_projection_gradients():
    camera, vertices = cameras(2), points(2)
    inputs = [field.requires_grad_() for field in (vertices, *camera)]
    assert torch.autograd.gradcheck(lambda v, s, t, r: project(v, Camera(s, t, r)), inputs)


@pytest.mark.parametrize("batch", [(), (4,)])
def test_projection_commutes_with_cropping(batch: tuple[int, ...]):
    camera, vertices, crop = cameras(*batch), points(*batch), box_to_crop(boxes(*batch))
    photo = project(vertices, camera)
    torch.testing.assert_close(project(vertices, crop_camera(camera, crop)), apply_crop(photo, crop))
    torch.testing.assert_close(undo_crop(apply_crop(photo, crop), crop), photo)
    assert_same_camera(uncrop_camera(crop_camera(camera, crop), crop), camera)


def test_crop_takes_the_box_to_the_unit_square():
    box = boxes(5)
    corners = torch.stack((box[:, :2], box[:, 2:]), 1)
    expected = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64).expand(5, 2, 2)
    torch.testing.assert_close(apply_crop(corners, box_to_crop(box)), expected)


def test_projection_commutes_with_flipping():
    camera, vertices = cameras(4), points(4)
    mirrored = vertices * torch.tensor([-1.0, 1.0, 1.0])
    image = project(vertices, camera) * torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(project(mirrored, flip_camera(camera)), image)
    torch.testing.assert_close(
        to_image_frame(mirrored, flip_camera(camera))[..., 2], to_image_frame(vertices, camera)[..., 2]
    )
    assert_same_camera(flip_camera(flip_camera(camera)), camera)


@pytest.mark.parametrize("focal", [3.0, 100.0])
def test_weak_to_perspective_and_back(focal: float):
    camera = cameras(4)
    assert_same_camera(perspective_to_weak(weak_to_perspective(camera, focal)), camera)


def test_perspective_nears_weak_perspective_as_the_focal_length_grows():
    camera, vertices = cameras(20), points(20)
    weak = project(vertices, camera)
    errors = []
    for focal in (20.0, 40.0, 80.0, 160.0):
        error = (project_perspective(vertices, weak_to_perspective(camera, focal)) - weak).abs().amax()
        errors.append(error.item())
    ratios = [one / other for one, other in itertools.pairwise(errors)]
    # First order in 1 / focal: doubling the length halves the error.
    assert all(1.8 < ratio < 2.6 for ratio in ratios)
    depth = to_image_frame(vertices, camera)[..., 2].abs().amax()
    assert errors[-1] < 1.3 * weak.abs().amax() * depth / 160


def test_models_agree_exactly_in_the_plane_of_the_origin():
    camera = cameras(4)
    flat = points(4) * torch.tensor([1.0, 1.0, 0.0])
    in_plane = flat @ camera.rotation  # R X has no depth
    torch.testing.assert_close(
        project_perspective(in_plane, weak_to_perspective(camera, 5.0)), project(in_plane, camera)
    )


def test_perspective_projection_is_the_formula():
    camera = PerspectiveCamera(
        torch.tensor([2.0, 3.0]), torch.tensor([0.5, -0.5]), torch.eye(3), torch.tensor([0.0, 0.0, 4.0])
    )
    image = project_perspective(torch.tensor([[1.0, 2.0, 0.0], [1.0, 2.0, 4.0]]), camera)
    torch.testing.assert_close(image, torch.tensor([[1.0, 1.0], [0.75, 0.25]]))


def test_perspective_principal_point_and_unequal_focal_lengths():
    camera = cameras(3)
    pinhole = weak_to_perspective(camera, 10.0)
    moved = perspective_to_weak(pinhole._replace(principal=pinhole.principal + 0.3))
    torch.testing.assert_close(moved.translation, camera.translation + 0.3)
    stretched = perspective_to_weak(pinhole._replace(focal=pinhole.focal * torch.tensor([1.1, 0.9])))
    torch.testing.assert_close(stretched.scale, camera.scale)


@pytest.mark.parametrize("focal", [0.0, -1.0, math.nan])
def test_focal_length_must_be_positive(focal: float):
    with pytest.raises(ValueError, match="positive focal length; got"):
        weak_to_perspective(cameras(), focal)


def test_convention_pixel_centers_and_corners():
    size = (4, 8)
    corners = torch.tensor([[0.0, 0.0], [8.0, 4.0]])
    torch.testing.assert_close(pixels_to_normalized(corners, size), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    # The center of pixel (row 1, column 5), as torch samples it with align_corners=False.
    image = torch.zeros(1, 1, *size)
    image[0, 0, 1, 5] = 1
    grid = pixels_to_normalized(torch.tensor([[[[5.5, 1.5]]]]), size)
    assert torch.nn.functional.grid_sample(image, grid, align_corners=False).item() == pytest.approx(1)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (480, 640)])
def test_pixels_and_normalized_coordinates_are_inverse(size: tuple[int, int]):
    pixels = 100 * points()[..., :2]
    torch.testing.assert_close(normalized_to_pixels(pixels_to_normalized(pixels, size), size), pixels)
