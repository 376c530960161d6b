import math

import pytest
import torch

from kpose.geometry._heatmap import gaussian_heatmaps
from kpose.losses import DivergenceLoss, HeatmapLoss, PositionLoss

LOSSES = [HeatmapLoss(), DivergenceLoss(), PositionLoss()]
KEYPOINTS = torch.tensor([[[0.1, -0.3], [0.5, 0.6]], [[-0.4, 0.2], [0.0, 0.0]]])
SIGMA = 0.15
SIZE = (12, 16)


def targets(dtype=torch.float32):
    return gaussian_heatmaps(KEYPOINTS.to(dtype), SIZE, SIGMA)


def noise(dtype=torch.float32):
    return torch.randn(2, 2, *SIZE, generator=torch.Generator().manual_seed(0), dtype=dtype)


def expectation(logits):
    """Sum position by probability, cell by cell."""
    probability = torch.softmax(logits.flatten(), 0).view(SIZE)
    x = y = 0.0
    for row in range(SIZE[0]):
        for column in range(SIZE[1]):
            x = x + probability[row, column] * ((2 * column + 1) / SIZE[1] - 1)
            y = y + probability[row, column] * ((2 * row + 1) / SIZE[0] - 1)
    return torch.stack((x, y))


def test_least_squares_is_equation_3():
    output, weights = noise(), torch.tensor([[1.0, 0.5], [0.0, 2.0]])
    above = sum(weights[b, n] * ((output - targets())[b, n] ** 2).sum() for b in (0, 1) for n in (0, 1))
    below = sum(weights[b, n] * (targets()[b, n] ** 2).sum() for b in (0, 1) for n in (0, 1))
    assert torch.allclose(HeatmapLoss()(output, KEYPOINTS, targets(), weights), above / below)


def test_divergence_is_that_of_torch():
    output = noise()
    expected = torch.stack(
        [
            torch.nn.functional.kl_div(
                output[b, n].flatten().log_softmax(0),
                targets()[b, n].flatten() / targets()[b, n].sum(),
                reduction="sum",
            )
            for b in (0, 1)
            for n in (0, 1)
        ]
    )
    weights = torch.tensor([[1.0, 0.5], [0.0, 2.0]])
    expected = (expected * weights.flatten()).sum() / weights.sum()
    assert torch.allclose(DivergenceLoss()(output, KEYPOINTS, targets(), weights), expected, rtol=1e-5)


def test_divergence_vanishes_at_the_target_and_is_the_entropy_left_at_uniform_maps():
    logits = targets().clamp_min(1e-30).log() + 3.0
    assert DivergenceLoss()(logits, KEYPOINTS, targets(), torch.ones(2, 2)).item() == pytest.approx(0, abs=1e-5)
    p = targets()[0, 0] / targets()[0, 0].sum()
    left = math.log(SIZE[0] * SIZE[1]) + torch.special.xlogy(p, p).sum().item()
    only = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert DivergenceLoss()(torch.zeros(2, 2, *SIZE), KEYPOINTS, targets(), only).item() == pytest.approx(
        left, rel=1e-4
    )


def test_position_is_the_distance_of_the_expected_position():
    output = noise()
    distance = torch.stack([(expectation(output[b, n]) - KEYPOINTS[b, n]).norm() for b in (0, 1) for n in (0, 1)])
    weights = torch.tensor([[1.0, 0.5], [0.0, 2.0]])
    expected = (distance * weights.flatten()).sum() / weights.sum()
    loss = PositionLoss(divergence_weight=0.0)(output, KEYPOINTS, targets(), weights)
    assert torch.allclose(loss, expected, rtol=1e-5)
    both = PositionLoss(divergence_weight=0.5)(output, KEYPOINTS, targets(), weights)
    divergence = DivergenceLoss()(output, KEYPOINTS, targets(), weights)
    assert torch.allclose(both, expected + 0.5 * divergence, rtol=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_gradient(loss):
    weights = torch.tensor([[1.0, 0.3], [0.0, 2.0]], dtype=torch.float64)
    arguments = (KEYPOINTS.double(), targets(torch.float64), weights)
    output = noise(torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda o: loss(o, *arguments), (output,), fast_mode=True)
    (gradient,) = torch.autograd.grad(loss(output, *arguments), output)
    assert (gradient[1, 0] == 0).all()
    assert (gradient[1, 1] != 0).any()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_without_weight_there_is_neither_loss_nor_gradient(loss):
    output = noise().requires_grad_()
    value = loss(output, KEYPOINTS, targets(), torch.zeros(2, 2))
    value.backward()
    assert value == 0
    assert (output.grad == 0).all()


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_what_is_learned_is_read_back(loss):
    output = torch.zeros(2, 2, *SIZE, requires_grad=True)
    optimizer = torch.optim.Adam([output], lr=0.2)
    for _ in range(150):
        optimizer.zero_grad()
        loss(output, KEYPOINTS, targets(), torch.ones(2, 2)).backward()
        optimizer.step()
    points, height = loss.peaks(loss.heatmaps(output.detach()))
    assert (points - KEYPOINTS).norm(dim=-1).max() < 0.02
    assert ((height > 0) & (height <= 1)).all()


def test_maps_of_the_softmax_losses_are_distributions():
    heatmaps = DivergenceLoss().heatmaps(noise() * 50)
    assert torch.allclose(heatmaps.sum((-2, -1)), torch.ones(2, 2))
    assert (heatmaps >= 0).all()


def test_position_at_the_keypoint_has_a_finite_gradient():
    output = torch.zeros(1, 1, 4, 4, requires_grad=True)
    PositionLoss()(output, torch.zeros(1, 1, 2), torch.ones(1, 1, 4, 4), torch.ones(1, 1)).backward()
    assert output.grad.isfinite().all()


POINTS = torch.tensor([[[0.1, -0.3], [0.5, 0.6]]])


@pytest.mark.parametrize("size", [32, 64, 128])
def test_empty_maps_score_one_whatever_the_resolution(size):
    target = gaussian_heatmaps(POINTS, (size, size))
    loss = HeatmapLoss()(torch.zeros_like(target), POINTS, target, torch.ones(1, 2))
    assert loss.item() == pytest.approx(1, abs=1e-6)
    assert HeatmapLoss()(target, POINTS, target, torch.ones(1, 2)) == 0


def test_maps_of_weight_zero_do_not_count():
    target = gaussian_heatmaps(POINTS, (16, 16))
    heatmaps = target.clone()
    heatmaps[:, 1] = torch.rand(16, 16)
    heatmaps.requires_grad_()
    loss = HeatmapLoss()(heatmaps, POINTS, target, torch.tensor([[1.0, 0.0]]))
    loss.backward()
    assert loss == 0
    assert (heatmaps.grad == 0).all()


def test_training_free_maps_does_not_collapse():
    target = gaussian_heatmaps(POINTS, (32, 32))
    maps = torch.zeros_like(target).requires_grad_()
    optimizer = torch.optim.Adam([maps], lr=0.1)
    for _ in range(50):
        optimizer.zero_grad()
        HeatmapLoss()(maps, POINTS, target, torch.ones(1, 2)).backward()
        optimizer.step()
    assert HeatmapLoss()(maps, POINTS, target, torch.ones(1, 2)) < 0.05
