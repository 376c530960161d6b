import math

import torch

from kpose.geometry import axis_angle_to_matrix
from kpose.reconstruction.camera_weights import camera_weights, distinct_best, rescale


def about_z(*degrees: float) -> torch.Tensor:
    angles = torch.tensor([math.radians(d) for d in degrees])
    return axis_angle_to_matrix(torch.stack((0 * angles, 0 * angles, angles), -1))


def test_weights_are_a_soft_minimum_of_rescaled_losses():
    losses = torch.tensor([[0.3, 0.1, 0.2], [5.0, 5.0, 5.0]])
    scores = torch.tensor([1.0, 0.0, 0.5]).neg() * 20
    expected = scores.exp() / scores.exp().sum()
    weights = camera_weights(losses)
    torch.testing.assert_close(weights[0], expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(weights[1], torch.full((3,), 1 / 3))


def test_weights_do_not_depend_on_unit_or_offset_and_have_no_gradient():
    losses = torch.tensor([0.3, 0.1, 0.2], requires_grad=True)
    weights = camera_weights(losses)
    assert not weights.requires_grad
    torch.testing.assert_close(weights, camera_weights(100 * losses - 7), atol=1e-3, rtol=1e-3)


def test_values_are_rescaled_within_an_image():
    values = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 5.0]])
    assert rescale(values).tolist() == [[1.0, 0.0, 0.5], [0.0, 0.0, 0.0]]


def test_without_a_least_angle_the_best_are_taken_in_order():
    kept = distinct_best(about_z(0, 1, 2, 3)[None], torch.tensor([[1, 3, 2, 0]]), 3, 0.0)
    assert kept.tolist() == [[1, 3, 2]]


def test_neighbors_of_a_better_camera_come_last_in_their_own_order():
    rotation = about_z(0, 5, 90, 180, 95)[None]
    order = torch.tensor([[0, 1, 4, 2, 3]])
    kept = distinct_best(rotation, order, 5, math.radians(20))
    # 0 takes 1 as its neighbor, 4 takes 2; then 3; then what was set aside.
    assert kept.tolist() == [[0, 4, 3, 1, 2]]
