import math

import pytest
import torch
from torch import Tensor

from kpose.geometry import axis_angle_to_matrix, random_rotation
from kpose.metrics import AngularError, angular_error
from kpose.metrics.angular_error import _frame_alignment
from kpose.structures import Camera


def camera(rotation: Tensor) -> Camera:
    return Camera(torch.ones(len(rotation)), torch.zeros(len(rotation), 2), rotation)


def turned(angles_deg: list[float]) -> Tensor:
    axis = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0)
    return axis_angle_to_matrix(torch.tensor(angles_deg).deg2rad()[:, None] * axis)


def test_known_angles() -> None:
    angles = [0.0, 0.01, 29.0, 90.0, 179.5]
    error = angular_error(turned(angles), torch.eye(3).expand(5, 3, 3))
    torch.testing.assert_close(error, torch.tensor(angles), atol=2e-4, rtol=0)


def test_equals_the_quaternion_angle_of_the_published_benchmark() -> None:
    first = random_rotation((50,), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    second = random_rotation((50,), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    trace = (first.mT @ second).diagonal(dim1=-2, dim2=-1).sum(-1)
    torch.testing.assert_close(angular_error(first, second), ((trace - 1) / 2).acos().rad2deg())


def test_random_rotations_differ_by_126_degrees() -> None:
    # The mean angle between two uniformly random rotations is 90 + 360 / pi^2 degrees.
    generator = torch.Generator().manual_seed(2)
    first, second = random_rotation((2, 20000), generator=generator)
    assert angular_error(first, second).mean().item() == pytest.approx(90 + 360 / math.pi**2, abs=0.6)


def test_mean_median_and_accuracy() -> None:
    metric = AngularError()
    target = torch.eye(3).expand(5, 3, 3)
    rotation = turned([10.0, 20.0, 29.9, 30.1, 100.0])
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
        metric.update(camera(rotation[rows]), camera(target[rows]))
    scores = {name: value.item() for name, value in metric.compute().items()}
    assert scores == pytest.approx({"angle_deg": 38.0, "angle_deg_median": 29.9, "angle_acc30": 0.6}, abs=1e-3)


def test_median_of_an_even_number_is_the_middle() -> None:
    metric = AngularError()
    metric.update(camera(turned([10.0, 20.0, 40.0, 100.0])), camera(torch.eye(3).expand(4, 3, 3)))
    assert metric.compute()["angle_deg_median"].item() == pytest.approx(30.0, abs=1e-3)


def test_half_precision_cameras_are_accepted() -> None:
    metric = AngularError()
    metric.update(camera(turned([10.0]).bfloat16()), camera(torch.eye(3)[None]))
    assert metric.compute()["angle_deg"].item() == pytest.approx(10.0, abs=1)


def test_a_nan_camera_never_improves_a_score() -> None:
    metric = AngularError()
    metric.update(camera(torch.full((1, 3, 3), math.nan)), camera(torch.eye(3)[None]))
    metric.update(camera(torch.eye(3)[None]), camera(torch.eye(3)[None]))
    scores = metric.compute()
    assert scores["angle_deg"].isnan()
    assert scores["angle_deg_median"].isnan()
    assert scores["angle_acc30"].item() == 0.5


def test_without_images_warns_and_gives_nan() -> None:
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert all(value.isnan() for value in AngularError().compute().values())


def test_nothing_is_aligned_by_default() -> None:
    target = random_rotation((20,), generator=torch.Generator().manual_seed(3))
    quarter = axis_angle_to_matrix(torch.tensor([0.0, 0.0, math.pi / 2]))
    plain, aligned = AngularError(), AngularError(align=True)
    plain.update(camera(target @ quarter), camera(target))
    aligned.update(camera(target @ quarter), camera(target))
    assert plain.compute()["angle_deg"].item() == pytest.approx(90, abs=1e-2)
    assert aligned.compute()["angle_deg"].item() == pytest.approx(0, abs=1e-2)


def test_alignment_finds_the_frame_under_noise() -> None:
    generator = torch.Generator().manual_seed(4)
    target = random_rotation((200,), generator=generator)
    frame = random_rotation((), generator=generator)
    noise = axis_angle_to_matrix(0.3 * torch.randn(200, 3, generator=generator))
    found = _frame_alignment(noise @ target @ frame.mT, target)
    assert angular_error(found, frame).item() < 4


def test_alignment_of_nan_is_nan() -> None:
    assert _frame_alignment(torch.full((2, 3, 3), math.nan), torch.eye(3).expand(2, 3, 3)).isnan().all()
