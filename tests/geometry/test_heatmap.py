import pytest
import torch

from kpose.geometry._heatmap import gaussian_heatmaps, heatmap_mean, heatmap_peaks


def uniform_points(count: int, extent: float = 1.0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return extent * (2 * torch.rand(count, 2, generator=generator, dtype=dtype) - 1)


def test_gaussian_is_equation_4_at_cell_centers():
    points = uniform_points(5, dtype=torch.float64)
    maps = gaussian_heatmaps(points, (6, 9), sigma=0.3)
    for i, j in [(0, 0), (5, 8), (2, 7)]:
        center = torch.tensor([(2 * j + 1) / 9 - 1, (2 * i + 1) / 6 - 1], dtype=torch.float64)
        expected = torch.exp(-(points - center).square().sum(-1) / (2 * 0.3**2))
        torch.testing.assert_close(maps[:, i, j], expected)


def test_convention_heatmap_peak_is_one_on_the_cell_center():
    maps = gaussian_heatmaps(torch.tensor([[0.25, -0.75]]), (4, 4))
    assert maps[0, 0, 2] == 1


@pytest.mark.parametrize("batch", [(), (2,), (2, 3)])
def test_any_leading_dimensions(batch: tuple[int, ...]):
    maps = gaussian_heatmaps(torch.zeros(*batch, 7, 2), (8, 6))
    points, confidence = heatmap_peaks(maps)
    assert maps.shape == (*batch, 7, 8, 6)
    assert points.shape == (*batch, 7, 2)
    assert confidence.shape == (*batch, 7)


@pytest.mark.parametrize(
    ("size", "sigma"), [((32, 32), 0.05), ((64, 64), 0.05), ((32, 48), 2 / 32), ((32, 32), 0.2)]
)
def test_peaks_are_sub_cell_everywhere(size: tuple[int, int], sigma: float):
    points = uniform_points(2000)
    found, confidence = heatmap_peaks(gaussian_heatmaps(points, size, sigma=sigma))
    cells = (found - points).abs() * torch.tensor([size[1], size[0]]) / 2
    assert cells.max() < 2e-3
    assert confidence.min() > 0.5


def test_peaks_bear_noise():
    points = uniform_points(500, 0.9)
    generator = torch.Generator().manual_seed(1)
    maps = gaussian_heatmaps(points, (64, 64))
    noisy = maps + 0.02 * torch.randn(maps.shape, generator=generator)
    found, _ = heatmap_peaks(noisy)
    assert ((found - points).norm(dim=-1) * 32).mean() < 0.1


def test_scaling_a_map_changes_only_the_confidence():
    maps = gaussian_heatmaps(uniform_points(50), (32, 32))
    points, confidence = heatmap_peaks(maps)
    scaled_points, scaled_confidence = heatmap_peaks(7 * maps)
    torch.testing.assert_close(scaled_points, points)
    torch.testing.assert_close(scaled_confidence, 7 * confidence)


def test_degenerate_maps_give_finite_points_and_gradients():
    lone = torch.zeros(8, 8)
    lone[3, 5] = 1
    maps = torch.stack((torch.zeros(8, 8), torch.ones(8, 8), -torch.ones(8, 8), lone)).requires_grad_()
    points, confidence = heatmap_peaks(maps)
    (points.sum() + confidence.sum()).backward()
    assert points.isfinite().all()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    torch.testing.assert_close(points[3], torch.tensor([2 * 5.5 / 8 - 1, 2 * 3.5 / 8 - 1]))
    assert confidence[0] == 0


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 5), (3, 2)])
def test_tiny_maps(size: tuple[int, int]):
    points, _ = heatmap_peaks(torch.ones(1, *size))
    assert points.abs().max() <= 1


def test_point_that_is_not_finite_gives_a_zero_map_and_a_finite_gradient():
    points = torch.tensor([[float("nan"), 0.0], [0.0, 0.0]], requires_grad=True)
    maps = gaussian_heatmaps(points, (8, 8))
    maps.sum().backward()
    assert maps[0].eq(0).all()
    assert points.grad is not None
    assert points.grad.isfinite().all()


def test_point_outside_peaks_on_the_border():
    found, confidence = heatmap_peaks(gaussian_heatmaps(torch.tensor([[1.04, 0.0]]), (32, 32)))
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0)
    assert confidence < 1


def test_half_precision_maps_give_float32_points():
    points, confidence = heatmap_peaks(gaussian_heatmaps(torch.zeros(1, 2), (32, 32)).bfloat16())
    assert points.dtype == confidence.dtype == torch.float32


def test_gradients():
    points = uniform_points(3, 0.8, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda p: gaussian_heatmaps(p, (5, 6), sigma=0.4), points)
    maps = gaussian_heatmaps(points.detach(), (9, 9), sigma=0.3).requires_grad_()
    assert torch.autograd.gradcheck(heatmap_peaks, maps)


def test_sigma_must_be_positive():
    with pytest.raises(ValueError, match="positive sigma; got 0"):
        gaussian_heatmaps(torch.zeros(1, 2), (4, 4), sigma=0.0)


def test_mean_of_a_gaussian_inside_the_map_is_its_point():
    points = uniform_points(20, 0.5)
    maps = gaussian_heatmaps(points, (24, 32), 0.1)
    assert torch.allclose(heatmap_mean(maps / maps.sum((-2, -1), keepdim=True)), points, atol=1e-3)


def test_mean_of_one_cell_is_its_center():
    maps = torch.zeros(2, 3, 4, 8)
    maps[0, 1, 2, 5] = 1
    assert torch.allclose(heatmap_mean(maps)[0, 1], torch.tensor([11 / 8 - 1, 5 / 4 - 1]))
