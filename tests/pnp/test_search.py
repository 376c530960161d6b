import torch
from pnp.problems import DOUBLE, problem_and_camera
from torch import Tensor

from kpose.geometry import axis_angle_to_matrix, random_rotation
from kpose.pnp.hypotheses import draw_samples, pick_cameras, sample_cameras
from kpose.pnp.model import Problem, least_squares_kernel, linearize, move, squared_residuals
from kpose.pnp.moments import moments
from kpose.pnp.refinement import damped_inverse, newton_step
from kpose.pnp.search import step, truncated_cost, turn
from kpose.structures import Camera


def test_closed_form_step_is_the_gauss_newton_step():
    problem, camera = problem_and_camera()
    actual = step(camera, moments(problem).means(problem.weights[:, None].expand(-1, 3, -1)))
    # The closed form eliminates the translation: it starts, as it were, from the best one.
    camera = camera._replace(translation=best_translation(problem, camera))
    now = linearize(problem, camera, least_squares_kernel(camera))
    inverse = damped_inverse(now._replace(hessian=now.matrix), torch.full_like(camera.scale, 1e-3))
    step_taken = newton_step(inverse, now.slope)
    unclamped = (step_taken.abs() < 0.6).all(-1)
    assert unclamped.sum() >= 5
    expected = move(camera, step_taken)
    torch.testing.assert_close(actual.rotation[unclamped], expected.rotation[unclamped], atol=1e-3, rtol=0)
    torch.testing.assert_close(actual.scale[unclamped], expected.scale[unclamped], atol=0, rtol=1e-3)
    torch.testing.assert_close(actual.translation, best_translation(problem, actual))


def best_translation(problem: Problem, camera: Camera) -> Tensor:
    share = problem.weights / problem.weights.sum(-1, keepdim=True)
    image, points = (torch.einsum("pn,pni->pi", share, field) for field in problem[:2])
    shift = torch.einsum("pkij,pj->pki", camera.rotation[..., :2, :], points)
    return image[:, None] - camera.scale[..., None] * shift


def test_samples_are_scored_in_blocks_as_the_cameras_they_give():
    problem, _ = problem_and_camera(noise=0.02)
    draws = torch.rand(30, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    affine = sample_cameras(problem, draw_samples(problem.weights, draws))
    cost = truncated_cost(moments(problem), problem.weights[:, None], affine, 0.05, cache=800)
    cameras = pick_cameras(affine, torch.arange(30).expand(5, 30))
    expected = (problem.weights[:, None] * squared_residuals(problem, cameras).clamp_max(0.05)).sum(-1)
    torch.testing.assert_close(cost, expected, atol=1e-4, rtol=1e-3)


def test_turn_is_a_rotation_and_the_exponential_to_second_order():
    generator = torch.Generator().manual_seed(0)
    rotation = random_rotation((4, 5), generator=generator, dtype=DOUBLE)
    vector = torch.randn(4, 5, 3, generator=generator, dtype=DOUBLE)
    for size in (1.0, 1e-3):
        turned = turn(rotation.permute(2, 3, 0, 1), size * vector.permute(2, 0, 1)).permute(2, 3, 0, 1)
        torch.testing.assert_close(turned @ turned.mT, torch.eye(3, dtype=DOUBLE).expand(4, 5, 3, 3))
    expected = axis_angle_to_matrix(1e-3 * vector) @ rotation
    torch.testing.assert_close(turned, expected, atol=1e-8, rtol=0)
