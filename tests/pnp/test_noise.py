import torch
from pnp.problems import DOUBLE, problem_and_camera

from kpose.pnp.model import jacobian, view
from kpose.pnp.noise import free_share, freedom, variance


def test_points_that_weigh_one_have_two_degrees_each_but_for_the_six_of_the_camera():
    for count in (4, 5, 12):
        torch.testing.assert_close(freedom(torch.ones(count)), torch.tensor(2.0 * count - 6))
        share = free_share(torch.ones(count), torch.tensor(2.0 * count - 6))
        torch.testing.assert_close(share, torch.tensor(1 - 3 / count))
    assert freedom(torch.tensor([1.0, 1.0, 1.0, 0.0])) == 0
    assert freedom(torch.zeros(4)) == 0


def test_the_heaviest_points_take_no_more_than_their_two_coordinates():
    light = 1e-6
    for heavy in (1, 2):
        weights = torch.tensor([1.0] * heavy + [light] * 11)
        torch.testing.assert_close(freedom(weights), torch.tensor((22 - (6 - 2 * heavy)) * light))


def test_freedom_is_that_of_the_exact_leverages_within_a_factor_of_two():
    problem, camera = problem_and_camera()
    derivative = jacobian(view(problem, camera.at((slice(None), slice(1))))[0])[:, 0]  # (P, 6, 2, N)
    for weights in (torch.ones(12, dtype=DOUBLE), torch.tensor([30.0] + [1.0] * 11, dtype=DOUBLE)):
        normal = torch.einsum("pian,n,pjan->pij", derivative, weights, derivative)
        square = torch.einsum("pian,n,pjan->pij", derivative, weights.square(), derivative)
        exact = 2 * weights.sum() - torch.linalg.solve(normal, square).diagonal(dim1=-2, dim2=-1).sum(-1)
        ratio = exact / freedom(weights)
        assert (ratio > 0.5).all()
        assert (ratio < 2).all()


def test_variance_of_few_trusted_points_is_finite():
    weights = torch.ones(1, 1, 12)
    free = freedom(weights)
    squared = torch.full((1, 2, 12), 0.5)
    trust = torch.tensor([[[1.0] * 12, [1.0] * 2 + [0.0] * 10]])
    found = variance(weights, free, trust, squared)
    torch.testing.assert_close(found, torch.tensor([[6.0 / 18, 1.0 / 0.75]]))
