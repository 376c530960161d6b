import torch
from pnp.problems import problem_and_camera

from kpose.pnp.model import squared_residuals
from kpose.pnp.moments import cross, dot, moments, multiply


def test_moments_give_the_residuals():
    problem, camera = problem_and_camera()
    rows = camera.scale[..., None, None] * camera.rotation[..., :2, :]
    affine = torch.cat((camera.translation[..., None], rows), -1).permute(2, 3, 0, 1)
    torch.testing.assert_close(moments(problem).squared_distances(affine), squared_residuals(problem, camera))


def test_means_are_those_of_the_weighted_points():
    problem, _ = problem_and_camera()
    means = moments(problem).means(problem.weights[:, None])
    share = problem.weights / problem.weights.sum(-1, keepdim=True)
    one = torch.ones_like(problem.weights)[..., None]
    expected = torch.einsum(
        "pn,pni,pnj->ijp",
        share,
        torch.cat((one, problem.object), -1),
        torch.cat((one, problem.object, problem.image), -1),
    )
    torch.testing.assert_close(means[..., 0], expected)


def test_products_with_the_components_first_are_those_of_torch():
    first, second = torch.rand(2, 3, 7)
    torch.testing.assert_close(dot(first, second), torch.linalg.vecdot(first, second, dim=0))
    torch.testing.assert_close(cross(first, second), torch.linalg.cross(first, second, dim=0))
    left, right = torch.rand(2, 3, 7), torch.rand(3, 4, 7)
    expected = torch.einsum("ijp,jlp->ilp", left, right)
    torch.testing.assert_close(multiply(left, right), expected)
