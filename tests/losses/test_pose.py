import math

import torch

from kpose.geometry import axis_angle_to_matrix, geodesic_distance, matrix_to_quaternion, random_rotation
from kpose.losses import chordal_distance, quaternion_distance


def pairs(count=64):
    generator = torch.Generator().manual_seed(0)
    return (random_rotation((count,), generator=generator, dtype=torch.float64) for _ in range(2))


def test_quaternion_distance_depends_on_the_angle_only():
    first, second = pairs()
    angle = geodesic_distance(first, second)
    distance = quaternion_distance(matrix_to_quaternion(first), matrix_to_quaternion(second))
    assert torch.allclose(distance, 1 - torch.cos(angle / 2))


def test_quaternion_distance_is_the_same_for_both_signs():
    first, second = (matrix_to_quaternion(rotation) for rotation in pairs())
    assert torch.equal(quaternion_distance(first, second), quaternion_distance(-first, second))


def test_quaternion_distance_keeps_its_precision_near_zero():
    turned = matrix_to_quaternion(axis_angle_to_matrix(torch.tensor([2e-4, 0.0, 0.0])))
    distance = quaternion_distance(turned, torch.tensor([1.0, 0.0, 0.0, 0.0]))
    assert math.isclose(distance.item(), 1e-4**2 / 2, rel_tol=1e-3)


def test_quaternion_distance_gradient():
    first, second = (matrix_to_quaternion(rotation)[:8] for rotation in pairs())
    assert torch.autograd.gradcheck(quaternion_distance, (first.requires_grad_(), second))


def test_quaternion_gradient_is_finite_where_two_ways_are_equally_long():
    q = torch.tensor([1.0, 0.0, 0.0, 0.0], requires_grad=True)
    quaternion_distance(q, torch.tensor([0.0, 1.0, 0.0, 0.0])).backward()
    assert q.grad.isfinite().all()


def test_chordal_distance_depends_on_the_angle_only():
    first, second = pairs()
    expected = torch.sin(geodesic_distance(first, second) / 2).square()
    assert torch.allclose(chordal_distance(first, second), expected)
    assert torch.autograd.gradcheck(chordal_distance, (first[:4].requires_grad_(), second[:4]))
