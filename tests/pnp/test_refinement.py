import torch
from pnp.problems import DOUBLE, problem_and_camera

from kpose.geometry import geodesic_distance
from kpose.pnp import RobustKernel, refine_camera
from kpose.pnp.model import move
from kpose.pnp.refinement import invert
from kpose.structures import Camera

KERNEL = RobustKernel(torch.full((1, 1), 0.1, dtype=DOUBLE), torch.full((1, 1), -8.0, dtype=DOUBLE))


def test_candidates_near_the_camera_reach_it_among_outliers():
    problem, camera = problem_and_camera(noise=0.0)
    image = problem.image.clone()
    image[:, 0] += 3
    true = camera.at((slice(None), slice(1)))
    nudge = torch.tensor([0.1, 0.05, -0.05, 0.15, -0.1, 0.1], dtype=DOUBLE).expand(5, 1, 6)
    found = refine_camera(image, problem.object, problem.weights, move(true, nudge), KERNEL)
    assert geodesic_distance(found.rotation, true.rotation).max() < 1e-6
    torch.testing.assert_close(found.scale, true.scale)
    torch.testing.assert_close(found.translation, true.translation)


def test_the_cost_never_rises():
    problem, camera = problem_and_camera()

    def cost(candidates: Camera) -> torch.Tensor:
        points = problem.object[:, None].expand(-1, 3, -1, -1)
        shown = points @ candidates.rotation.mT * candidates.scale[..., None, None]
        residual = shown[..., :2] + candidates.translation[..., None, :] - problem.image[:, None]
        return (KERNEL.cost(residual.square().sum(-1)) * problem.weights[:, None]).sum(-1)

    before = cost(camera)
    for steps in (1, 5, 20):
        after = cost(refine_camera(*problem, camera, KERNEL, steps=steps))
        assert (after <= before + 1e-9).all()
        before = after


def test_no_step_leaves_the_camera_and_points_that_say_nothing_do_too():
    problem, camera = problem_and_camera()
    for weights, steps in ((problem.weights, 0), (torch.zeros_like(problem.weights), 5)):
        found = refine_camera(problem.image, problem.object, weights, camera, KERNEL, steps=steps)
        for actual, expected in zip(found, camera, strict=True):
            torch.testing.assert_close(actual, expected)


def test_inverse_of_what_is_not_positive_definite_is_flagged():
    good = torch.diag(torch.tensor([1.0, 4.0, 1e6, 1e-6, 2.0, 3.0]))
    inverse, sound = invert(torch.stack((good, -good, torch.zeros(6, 6), torch.full((6, 6), torch.nan))))
    assert sound.tolist() == [True, False, False, False]
    torch.testing.assert_close(inverse[0], torch.linalg.inv(good))
    assert torch.equal(inverse[1:], torch.eye(6).expand(3, 6, 6))
