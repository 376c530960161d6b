import torch
from pnp.problems import DOUBLE, problem_and_camera
from torch import Tensor

from kpose.pnp.model import RobustKernel, jacobian, least_squares_kernel, linearize, move, squared_residuals
from kpose.structures import Camera


def moved_by_matrix_exponential(camera: Camera, offset: Tensor) -> Camera:
    """By autograd through the matrix exponential, as an independent witness."""
    zero = offset.new_zeros(())
    x, y, z = offset[3:]
    skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero)).reshape(3, 3)
    return Camera(
        camera.scale * offset[0].exp(),
        camera.translation + offset[1:3],
        torch.linalg.matrix_exp(skew) @ camera.rotation,
    )


def test_gradient_and_hessian_are_those_of_the_cost():
    problem, camera = problem_and_camera()
    kernel = RobustKernel(torch.full_like(camera.scale, 0.7), torch.full_like(camera.scale, -1.0))
    now = linearize(problem, camera, kernel)

    def cost(offset: Tensor) -> Tensor:
        moved = moved_by_matrix_exponential(camera, offset)
        return (problem.weights[:, None] * kernel.cost(squared_residuals(problem, moved))).sum(-1)[2, 1]

    zero = torch.zeros(6, dtype=DOUBLE)
    variance = 0.7**2
    gradient = torch.autograd.functional.jacobian(cost, zero) * variance
    hessian = torch.autograd.functional.hessian(cost, zero) * variance
    torch.testing.assert_close(now.slope[2, 1], gradient)
    torch.testing.assert_close(now.hessian[2, 1], hessian)


def test_jacobian_is_the_derivative_of_the_moved_point():
    camera = Camera(torch.ones((), dtype=DOUBLE), torch.zeros(2, dtype=DOUBLE), torch.eye(3, dtype=DOUBLE))
    point = torch.tensor([0.3, -0.7, 1.1], dtype=DOUBLE)

    def image(offset: Tensor) -> Tensor:
        moved = moved_by_matrix_exponential(camera, offset)
        return moved.scale * (moved.rotation @ point)[:2] + moved.translation

    expected = torch.autograd.functional.jacobian(image, torch.zeros(6, dtype=DOUBLE))
    torch.testing.assert_close(jacobian(point[:, None])[..., 0], expected.mT)


def test_move_is_the_matrix_exponential():
    _, camera = problem_and_camera()
    offset = torch.tensor([0.1, 0.2, -0.3, 0.4, -0.5, 0.6], dtype=DOUBLE)
    expected = moved_by_matrix_exponential(camera, offset)
    for actual, wanted in zip(move(camera, offset.expand(5, 3, 6)), expected, strict=True):
        torch.testing.assert_close(actual, wanted)


def test_kernel_without_outliers_is_least_squares():
    _, camera = problem_and_camera()
    kernel = least_squares_kernel(camera)
    squared = torch.rand(5, 3, 4, dtype=DOUBLE)
    torch.testing.assert_close(kernel.cost(squared), squared / 2)
    assert (kernel.probability(squared) == 1).all()
