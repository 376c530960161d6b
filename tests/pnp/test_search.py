import torch
from torch import Tensor

from kpose.geometry import axis_angle_to_matrix, project, random_rotation
from kpose.pnp.hypotheses import closed_form, draw_samples, mirror_twins, orthogonalize, pick_poses, sample_cameras
from kpose.pnp.model import (
    Kernel,
    Pose,
    Problem,
    least_squares_kernel,
    linearize,
    move,
    products,
    squared_residuals,
    stack,
    turn,
)
from kpose.pnp.refinement import solve
from kpose.pnp.search import step, truncated_cost
from kpose.structures import Camera

DOUBLE = torch.float64


def problem_and_pose(noise: float = 0.1) -> tuple[Problem, Pose]:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(5, 12, 3, generator=generator, dtype=DOUBLE)
    rotation = random_rotation((5, 3), generator=generator, dtype=DOUBLE)
    scale = 0.5 + torch.rand(5, 3, generator=generator, dtype=DOUBLE)
    translation = torch.randn(5, 3, 2, generator=generator, dtype=DOUBLE)
    image = project(points, Camera(scale[:, 0], translation[:, 0], rotation[:, 0]))
    image = image + noise * torch.randn(image.shape, generator=generator, dtype=DOUBLE)
    weights = torch.rand(5, 12, generator=generator, dtype=DOUBLE)
    return Problem(image, points, weights), Pose(scale, translation, rotation)


def random_kernel(pose: Pose) -> Kernel:
    return Kernel(torch.full_like(pose.scale, 0.7), torch.full_like(pose.scale, -1.0))


def test_gradient_and_hessian_are_those_of_the_cost():
    problem, pose = problem_and_pose()
    kernel = random_kernel(pose)
    now = linearize(problem, pose, kernel)

    def cost(offset: Tensor) -> Tensor:
        # By autograd through the matrix exponential, as an independent witness.
        zero = offset.new_zeros(())
        x, y, z = offset[3:]
        skew = torch.stack((zero, -z, y, z, zero, -x, -y, x, zero)).reshape(3, 3)
        moved = Pose(
            pose.scale * offset[0].exp(),
            pose.translation + offset[1:3],
            torch.linalg.matrix_exp(skew) @ pose.rotation,
        )
        return (problem.weights[:, None] * kernel.cost(squared_residuals(problem, moved))).sum(-1)[2, 1]

    zero = torch.zeros(6, dtype=DOUBLE)
    variance = 0.7**2
    gradient = torch.autograd.functional.jacobian(cost, zero) * variance
    hessian = torch.autograd.functional.hessian(cost, zero) * variance
    torch.testing.assert_close(now.slope[2, 1], gradient)
    torch.testing.assert_close(now.hessian[2, 1], hessian)


def test_closed_form_step_is_the_gauss_newton_step():
    problem, pose = problem_and_pose()
    actual = step(stack(pose), products(problem).means(problem.weights[:, None].expand(-1, 3, -1))).pose()
    # The closed form eliminates the translation: it starts, as it were, from the best one.
    pose = pose._replace(translation=best_translation(problem, pose))
    now = linearize(problem, pose, least_squares_kernel(pose))
    step_taken = solve(now.matrix, now.slope, torch.full_like(pose.scale, 1e-3))
    unclamped = (step_taken.abs() < 0.6).all(-1)
    assert unclamped.sum() >= 5
    expected = move(pose, step_taken)
    torch.testing.assert_close(actual.rotation[unclamped], expected.rotation[unclamped], atol=1e-3, rtol=0)
    torch.testing.assert_close(actual.scale[unclamped], expected.scale[unclamped], atol=0, rtol=1e-3)
    torch.testing.assert_close(actual.translation, best_translation(problem, actual))


def best_translation(problem: Problem, pose: Pose) -> Tensor:
    share = problem.weights / problem.weights.sum(-1, keepdim=True)
    image, points = (torch.einsum("pn,pni->pi", share, field) for field in problem[:2])
    return image[:, None] - pose.scale[..., None] * torch.einsum("pkij,pj->pki", pose.rotation[..., :2, :], points)


def test_products_give_the_residuals():
    problem, pose = problem_and_pose()
    torch.testing.assert_close(products(problem).squared_residuals(stack(pose)), squared_residuals(problem, pose))


def test_orthogonalize_is_the_polar_factor():
    generator = torch.Generator().manual_seed(0)
    affine = torch.randn(50, 2, 3, generator=generator, dtype=DOUBLE)
    scale, rotation = orthogonalize(affine.movedim((-2, -1), (0, 1)))
    rotation = rotation.movedim((0, 1), (-2, -1))
    left, values, right = torch.linalg.svd(affine, full_matrices=False)
    polar = left @ right
    torch.testing.assert_close(scale, values.mean(-1))
    # The rows are orthonormal by construction; the first is that of the polar factor.
    torch.testing.assert_close(rotation[:, :2], polar, atol=1e-9, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50, dtype=DOUBLE))


def test_orthogonalize_of_flat_matrices_is_a_rotation():
    row = torch.tensor([1.0, 2.0, -1.0])
    affine = torch.stack(
        [torch.stack((a * row, b * row)) for a, b in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 2.0))]
    )
    _, rotation = orthogonalize(affine.movedim((-2, -1), (0, 1)))
    rotation = rotation.movedim((0, 1), (-2, -1))
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand(4, 3, 3), atol=1e-5, rtol=0)


def test_samples_are_distinct_and_follow_the_weights():
    weights = torch.tensor([[0.0, 1.0, 1.0, 2.0, 4.0, 0.0, 1.0, 1.0]])
    draws = torch.rand(4000, 4, generator=torch.Generator().manual_seed(0))
    samples = draw_samples(weights, draws)[0]
    ordered = samples.sort(0).values
    assert (ordered[1:] > ordered[:-1]).all()
    first = samples[0].bincount(minlength=8) / 4000
    torch.testing.assert_close(first, weights[0] / 10, atol=0.03, rtol=0)
    # Without replacement, against torch's own sampler.
    other = torch.multinomial(weights[0].expand(4000, -1), 4, generator=torch.Generator().manual_seed(1))
    counts, others = (drawn.flatten().bincount(minlength=8) / 16000 for drawn in (samples, other))
    torch.testing.assert_close(counts, others, atol=0.02, rtol=0)


def test_samples_of_exact_points_give_the_exact_pose():
    problem, pose = problem_and_pose(noise=0.0)
    draws = torch.rand(30, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    cameras = sample_cameras(problem, draw_samples(problem.weights, draws))
    found = pick_poses(cameras, torch.arange(30).expand(5, 30)).pose()
    error = (found.rotation - pose.rotation[:, :1]).abs().amax((-2, -1))
    assert error.median() < 1e-4
    closed = closed_form(problem).pose()
    torch.testing.assert_close(closed.rotation[:, 0], pose.rotation[:, 0])
    torch.testing.assert_close(closed.translation[:, 0], pose.translation[:, 0])


def test_samples_are_scored_in_blocks_as_the_poses_they_give():
    problem, _ = problem_and_pose(noise=0.02)
    draws = torch.rand(30, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    cameras = sample_cameras(problem, draw_samples(problem.weights, draws))
    cost = truncated_cost(products(problem), problem.weights[:, None], cameras, 0.05, cache=800)
    poses = pick_poses(cameras, torch.arange(30).expand(5, 30)).pose()
    expected = (problem.weights[:, None] * squared_residuals(problem, poses).clamp_max(0.05)).sum(-1)
    torch.testing.assert_close(cost, expected, atol=1e-4, rtol=1e-3)


def test_closed_form_of_a_plane_has_both_answers():
    problem, pose = problem_and_pose()
    flat = problem.object.clone()
    flat[..., 2] = 0.3 * flat[..., 0] + 1
    true = Pose(*(field[:, :1] for field in pose))
    image = project(flat, Camera(*(field[:, 0] for field in pose)))
    plane = Problem(image, flat, problem.weights)
    found = closed_form(plane).pose()
    assert squared_residuals(plane, found)[:, 1:].max() < 1e-12
    nearest = (found.rotation[:, 1:] - true.rotation).abs().amax((-2, -1)).amin(1)
    assert nearest.max() < 1e-6


def test_mirror_twin_of_a_plane_shows_the_same_image_and_its_twin_is_itself():
    problem, pose = problem_and_pose()
    flat = problem.object.clone()
    flat[..., 2] = 0.3 * flat[..., 0] + 1
    plane = Problem(problem.image, flat, problem.weights)
    points, weights = products(plane), problem.weights[:, None].expand(-1, 3, -1)
    twin = mirror_twins(points, stack(pose), weights)
    shown = squared_residuals(plane, twin.pose())
    torch.testing.assert_close(shown, squared_residuals(plane, pose))
    assert (twin.pose().rotation - pose.rotation).abs().amax((-2, -1)).min() > 0.1
    torch.testing.assert_close(mirror_twins(points, twin, weights).pose().rotation, pose.rotation)


def test_turn_is_a_rotation_and_the_exponential_to_second_order():
    generator = torch.Generator().manual_seed(0)
    rotation = random_rotation((4, 5), generator=generator, dtype=DOUBLE)
    vector = torch.randn(4, 5, 3, generator=generator, dtype=DOUBLE)
    for size in (1.0, 1e-3):
        turned = turn(rotation.permute(2, 3, 0, 1), size * vector.permute(2, 0, 1)).permute(2, 3, 0, 1)
        torch.testing.assert_close(turned @ turned.mT, torch.eye(3, dtype=DOUBLE).expand(4, 5, 3, 3))
    expected = axis_angle_to_matrix(1e-3 * vector) @ rotation
    torch.testing.assert_close(turned, expected, atol=1e-8, rtol=0)
