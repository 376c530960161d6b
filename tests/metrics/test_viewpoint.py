import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from kpose.geometry import viewpoint_to_matrix
from kpose.metrics import ViewpointWasserstein
from kpose.metrics.viewpoint import _wasserstein_circular, _wasserstein_linear
from kpose.structures import Camera


def camera(azimuth: Tensor, elevation: Tensor) -> Camera:
    rotation = viewpoint_to_matrix(azimuth, elevation, torch.zeros_like(azimuth))
    return Camera(torch.ones(len(azimuth)), torch.zeros(len(azimuth), 2), rotation)


def brute_force_circular(first: np.ndarray, second: np.ndarray) -> float:
    """Cheapest of all rotations of the sorted matching, for samples of equal size."""
    first, second = np.sort(first % 360), np.sort(second % 360)
    costs = []
    for shift in range(len(second)):
        distance = np.abs(first - np.roll(second, shift)) % 360
        costs.append(np.minimum(distance, 360 - distance).mean())
    return min(costs)


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 7), (50, 50), (40, 33)])
def test_linear_equals_scipy(n: int, m: int) -> None:
    generator = torch.Generator().manual_seed(n)
    first = torch.randn(n, generator=generator, dtype=torch.float64)
    second = 2 * torch.randn(m, generator=generator, dtype=torch.float64) + 1
    assert _wasserstein_linear(first, second).item() == pytest.approx(wasserstein_distance(first, second))


@pytest.mark.parametrize("n", [1, 2, 5, 60])
@pytest.mark.parametrize("center", [0.0, 170.0])
def test_circular_equals_brute_force(n: int, center: float) -> None:
    random = np.random.default_rng(n)
    first, second = random.normal(center, 60, n), random.normal(center + 40, 90, n)
    found = _wasserstein_circular(torch.tensor(first), torch.tensor(second), period=360.0)
    assert found.item() == pytest.approx(brute_force_circular(first, second))


def test_circular_with_unequal_counts_equals_repeated_samples() -> None:
    random = np.random.default_rng(9)
    first, second = random.uniform(0, 360, 4), random.uniform(0, 360, 6)
    expected = brute_force_circular(np.repeat(first, 3), np.repeat(second, 2))
    found = _wasserstein_circular(torch.tensor(first), torch.tensor(second), period=360.0)
    assert found.item() == pytest.approx(expected)


def test_circular_does_not_see_where_the_circle_is_cut() -> None:
    generator = torch.Generator().manual_seed(5)
    first, second = 6 * torch.rand(2, 30, generator=generator, dtype=torch.float64)
    distance = _wasserstein_circular(first, second)
    for turn in (-7.0, 1.0, 3.0):
        torch.testing.assert_close(_wasserstein_circular(first + turn, second + turn), distance)


def test_circular_is_zero_for_equal_samples_and_symmetric() -> None:
    first, second = torch.rand(2, 20, generator=torch.Generator().manual_seed(6))
    assert _wasserstein_circular(first, first.flip(0)).item() == 0
    torch.testing.assert_close(_wasserstein_circular(first, second), _wasserstein_circular(second, first))


def test_opposite_points_are_half_a_turn_apart() -> None:
    found = _wasserstein_circular(torch.tensor([0.0]), torch.tensor([math.pi]))
    assert found.item() == pytest.approx(math.pi)


@pytest.mark.parametrize("distance", [_wasserstein_linear, _wasserstein_circular])
def test_empty_and_nan_samples_give_nan(distance) -> None:
    some, none = torch.tensor([0.1, 0.2]), torch.zeros(0)
    assert distance(some, none).isnan()
    assert distance(none, none).isnan()
    assert distance(some, torch.tensor([math.nan, 0.2])).isnan()


def test_metric_measures_turns_over_the_back_and_lifts() -> None:
    azimuth = torch.linspace(-3, 3, 25)
    elevation = torch.linspace(-0.5, 0.5, 25)
    metric = ViewpointWasserstein()
    target = camera(torch.full((25,), math.pi - 0.05), elevation)
    lifted = camera(torch.full((25,), -math.pi + 0.05), elevation + math.radians(10))
    for rows in (slice(0, 10), slice(10, 20), slice(20, 25)):
        metric.update(Camera(*(x[rows] for x in lifted)), Camera(*(x[rows] for x in target)))
    scores = metric.compute()
    assert scores["azimuth_ws_deg"].item() == pytest.approx(math.degrees(0.1), abs=1e-3)
    assert scores["elevation_ws_deg"].item() == pytest.approx(10, abs=1e-3)
    metric.reset()
    metric.update(camera(azimuth, elevation), camera(azimuth.flip(0), elevation.flip(0)))
    assert max(metric.compute().values()) < 1e-3  # a distribution has no order


def test_a_nan_camera_gives_nan() -> None:
    metric = ViewpointWasserstein()
    unknown = torch.tensor([math.nan])
    metric.update(camera(unknown, unknown), camera(torch.zeros(1), torch.zeros(1)))
    assert all(value.isnan() for value in metric.compute().values())


def test_without_images_warns_and_gives_nan() -> None:
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert all(value.isnan() for value in ViewpointWasserstein().compute().values())
