import pytest
import torch

from kpose.geometry import gaussian_heatmaps
from kpose.losses import heatmap_loss

POINTS = torch.tensor([[[0.1, -0.3], [0.5, 0.6]]])


@pytest.mark.parametrize("size", [32, 64, 128])
def test_empty_maps_score_one_whatever_the_resolution(size):
    target = gaussian_heatmaps(POINTS, (size, size))
    loss = heatmap_loss(torch.zeros_like(target), target, torch.ones(1, 2))
    assert loss.item() == pytest.approx(1, abs=1e-6)
    assert heatmap_loss(target, target, torch.ones(1, 2)) == 0


def test_maps_of_weight_zero_do_not_count():
    target = gaussian_heatmaps(POINTS, (16, 16))
    heatmaps = target.clone()
    heatmaps[:, 1] = torch.rand(16, 16)
    heatmaps.requires_grad_()
    loss = heatmap_loss(heatmaps, target, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss == 0
    assert (heatmaps.grad == 0).all()


def test_no_weight_at_all_gives_zero_and_a_zero_gradient():
    heatmaps = torch.rand(1, 2, 8, 8, requires_grad=True)
    loss = heatmap_loss(heatmaps, torch.rand(1, 2, 8, 8), torch.zeros(1, 2))
    loss.backward()
    assert loss == 0
    assert (heatmaps.grad == 0).all()


def test_gradient():
    generator = torch.Generator().manual_seed(0)
    maps, target = torch.rand(2, 1, 2, 4, 4, generator=generator, dtype=torch.float64)
    weights = torch.tensor([[1.0, 0.3]], dtype=torch.float64)
    function = lambda m: heatmap_loss(m, target, weights)  # noqa: E731
    assert torch.autograd.gradcheck(function, (maps.requires_grad_(),))


def test_training_free_maps_does_not_collapse():
    target = gaussian_heatmaps(POINTS, (32, 32))
    maps = torch.zeros_like(target).requires_grad_()
    optimizer = torch.optim.Adam([maps], lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        heatmap_loss(maps, target, torch.ones(1, 2)).backward()
        optimizer.step()
    assert heatmap_loss(maps, target, torch.ones(1, 2)) < 0.05
