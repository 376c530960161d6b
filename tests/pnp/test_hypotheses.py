import torch
from pnp.problems import DOUBLE, flat_problem, problem_and_camera

from kpose.geometry import project
from kpose.pnp.hypotheses import (
    closed_form,
    draw_samples,
    mirror_twins,
    orthogonalize,
    pick_cameras,
    sample_cameras,
)
from kpose.pnp.model import squared_residuals
from kpose.pnp.moments import moments


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


def test_samples_of_exact_points_give_the_exact_camera():
    problem, camera = problem_and_camera(noise=0.0)
    draws = torch.rand(30, 4, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    affine = sample_cameras(problem, draw_samples(problem.weights, draws))
    found = pick_cameras(affine, torch.arange(30).expand(5, 30))
    error = (found.rotation - camera.rotation[:, :1]).abs().amax((-2, -1))
    assert error.median() < 1e-4
    closed = closed_form(problem)
    torch.testing.assert_close(closed.rotation[:, 0], camera.rotation[:, 0])
    torch.testing.assert_close(closed.translation[:, 0], camera.translation[:, 0])


def test_closed_form_of_a_plane_has_both_answers():
    plane, camera = flat_problem()
    true = camera.at((slice(None), 0))
    plane = plane._replace(image=project(plane.object, true))
    found = closed_form(plane)
    assert squared_residuals(plane, found)[:, 1:].max() < 1e-12
    nearest = (found.rotation[:, 1:] - true.rotation[:, None]).abs().amax((-2, -1)).amin(1)
    assert nearest.max() < 1e-6


def test_mirror_twin_of_a_plane_shows_the_same_image_and_its_twin_is_itself():
    plane, camera = flat_problem()
    points, weights = moments(plane), plane.weights[:, None].expand(-1, 3, -1)
    twin = mirror_twins(points, camera, weights)
    torch.testing.assert_close(squared_residuals(plane, twin), squared_residuals(plane, camera))
    assert (twin.rotation - camera.rotation).abs().amax((-2, -1)).min() > 0.1
    torch.testing.assert_close(mirror_twins(points, twin, weights).rotation, camera.rotation)
