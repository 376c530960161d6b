import functools
import inspect
import math

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from torch import Tensor

from kpose.geometry import axis_angle_to_matrix, geodesic_distance, project, random_rotation
from kpose.pnp import PnPSolution, solve_pnp
from kpose.structures import Camera

AXES = (0.25, 0.9, 0.45)


def scene(
    batch: tuple[int, ...] = (20,),
    count: int = 16,
    *,
    noise: float = 0.0,
    outliers: int = 0,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> tuple[Tensor, Tensor, Camera]:
    """Points on an ellipsoid under random cameras; the first ``outliers`` image points are random."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn((*batch, *size), generator=generator, dtype=dtype)

    direction = normal(count, 3)
    points = direction / direction.norm(dim=-1, keepdim=True) * torch.tensor(AXES, dtype=dtype)
    camera = Camera(
        0.8 * torch.exp(0.2 * normal()), 0.2 * normal(2), random_rotation(batch, generator=generator, dtype=dtype)
    )
    image = project(points, camera) + noise * normal(count, 2)
    if outliers:
        image[..., :outliers, :] = 2 * torch.rand(*batch, outliers, 2, generator=generator, dtype=dtype) - 1
    return image, points, camera


def angles_deg(solution: PnPSolution, camera: Camera) -> Tensor:
    return geodesic_distance(solution.camera.rotation, camera.rotation).rad2deg()


def assert_same_camera(first: Camera, second: Camera, atol: float = 1e-7) -> None:
    for one, other in zip(first, second, strict=True):
        torch.testing.assert_close(one, other, atol=atol, rtol=0)


@pytest.mark.parametrize("threshold", [0.1, None])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_exact_points_give_the_exact_camera(batch: tuple[int, ...], threshold: float | None):
    image, points, camera = scene(batch)
    solution = solve_pnp(image, points, threshold=threshold)
    assert_same_camera(solution.camera, camera, 1e-10)
    assert solution.valid.all()
    assert solution.inliers.all()
    assert solution.valid.shape == batch
    assert solution.covariance.shape == (*batch, 6, 6)


def test_four_points_suffice():
    image, points, camera = scene((200,), 4)
    solution = solve_pnp(image, points)
    right = angles_deg(solution, camera) < 1e-4
    # Four points fix the camera, but for samples so flat that the solver says so.
    assert right[solution.valid].double().mean() > 0.99
    assert solution.valid.double().mean() > 0.95


def test_float32_is_exact_to_rounding_also_in_pixels_of_a_photo():
    image, points, camera = scene((50,), dtype=torch.float32)
    pixels = 400 * image + torch.tensor([3000.0, 2000.0])
    solution = solve_pnp(pixels, 100 * points + 500, threshold=40.0)
    assert geodesic_distance(solution.camera.rotation, camera.rotation).max() < 1e-3
    assert (project(100 * points + 500, solution.camera) - pixels).abs().max() < 0.05


def test_rotation_is_a_rotation():
    image, points, _ = scene((50,), noise=0.1, outliers=4, dtype=torch.float32)
    rotation = solve_pnp(image, points).camera.rotation
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    assert (torch.linalg.det(rotation) > 0.99).all()


@pytest.mark.parametrize("threshold", [0.1, None])
def test_turning_the_object_turns_the_rotation(threshold: float | None):
    image, points, _ = scene(noise=0.03, outliers=3 if threshold else 0)
    turn = random_rotation((20,), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    still, turned = (solve_pnp(image, p, threshold=threshold).camera for p in (points, points @ turn.mT))
    assert_same_camera(turned._replace(rotation=turned.rotation @ turn), still)


def test_a_similarity_of_the_image_is_one_of_the_camera():
    image, points, _ = scene(noise=0.03, outliers=3)
    spin = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 0.7], dtype=torch.float64))
    moved = 50 * image @ spin[:2, :2].mT + torch.tensor([30.0, -10.0], dtype=torch.float64)
    one, other = solve_pnp(image, points), solve_pnp(moved, points, threshold=5.0)
    expected = Camera(
        50 * one.camera.scale,
        50 * one.camera.translation @ spin[:2, :2].mT + torch.tensor([30.0, -10.0], dtype=torch.float64),
        spin @ one.camera.rotation,
    )
    assert_same_camera(other.camera, expected, 1e-6)
    assert torch.equal(one.inliers, other.inliers)
    assert_covariance_scales(one.covariance, other.covariance, 50.0, spin)


def assert_covariance_scales(one: Tensor, other: Tensor, scale: float, spin: Tensor) -> None:
    change = torch.block_diag(torch.ones(1, 1, dtype=one.dtype), scale * spin[:2, :2], spin)
    torch.testing.assert_close(other, change @ one @ change.mT, rtol=1e-5, atol=1e-10)


def test_order_of_points_does_not_matter():
    image, points, _ = scene(noise=0.03, outliers=3)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    one, other = solve_pnp(image, points), solve_pnp(image[:, order], points[:, order])
    assert_same_camera(one.camera, other.camera)
    assert torch.equal(one.inliers[:, order], other.inliers)


@pytest.mark.parametrize("threshold", [0.1, None])
def test_weight_zero_is_absence(threshold: float | None):
    image, points, _ = scene(noise=0.03, outliers=6)
    weights = torch.ones(20, 16, dtype=torch.float64)
    weights[:, :4] = 0
    one = solve_pnp(image, points, weights, threshold=threshold)
    other = solve_pnp(image[:, 4:], points[:, 4:], threshold=threshold)
    assert_same_camera(one.camera, other.camera)
    torch.testing.assert_close(one.covariance, other.covariance, rtol=1e-5, atol=1e-9)
    assert not one.inliers[:, :4].any()


def test_only_ratios_of_weights_matter():
    image, points, _ = scene(noise=0.03, outliers=3)
    weights = torch.rand(20, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    one, other = solve_pnp(image, points, weights), solve_pnp(image, points, 1e-3 * weights)
    assert_same_camera(one.camera, other.camera)
    torch.testing.assert_close(one.covariance, other.covariance, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("threshold", [0.1, None])
@pytest.mark.parametrize("weight", [1e-42, 1e-30, 1e-20, 1e-10, 1e10, 1e30])
def test_weights_all_alike_count_one_each(weight: float, threshold: float | None):
    image, points, _ = scene((50,), noise=0.03, dtype=torch.float32)
    expected = solve_pnp(image, points, threshold=threshold)
    solution = solve_pnp(image, points, torch.full((50, 16), weight), threshold=threshold)
    assert solution.valid.all()
    assert_same_camera(solution.camera, expected.camera, 1e-5)
    torch.testing.assert_close(solution.covariance, expected.covariance, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("threshold", [0.1, None])
@pytest.mark.parametrize(("size", "unit"), [(1e-15, 1.0), (1e-10, 1e-6), (1e6, 1e3), (1.0, 1e-12)])
def test_units_of_object_and_image_do_not_matter(size: float, unit: float, threshold: float | None):
    image, points, _ = scene((50,), noise=0.01, dtype=torch.float32)
    expected = solve_pnp(image, points, threshold=threshold)
    solution = solve_pnp(unit * image, size * points, threshold=threshold and unit * threshold)
    assert solution.valid.all()
    torch.testing.assert_close(solution.camera.rotation, expected.camera.rotation, atol=1e-4, rtol=0)
    torch.testing.assert_close(solution.camera.scale * size / unit, expected.camera.scale, rtol=1e-4, atol=0)
    torch.testing.assert_close(solution.camera.translation / unit, expected.camera.translation, rtol=0, atol=1e-4)


def test_a_threshold_beyond_the_image_is_one_at_the_limit():
    image, points, camera = scene((50,), noise=0.005, dtype=torch.float32)
    solution = solve_pnp(1e-4 * image, points)
    assert solution.valid.all()
    assert angles_deg(solution, camera).max() < 5


def test_a_threshold_below_rounding_gives_finite_cameras():
    image, points, _ = scene((50,), noise=0.005, dtype=torch.float32)
    solution = solve_pnp(image, points, threshold=1e-30)
    assert all(field.isfinite().all() for field in (*solution.camera, solution.covariance))


WEIGHTS = {
    "equal": [1.0] * 12,
    "one of 20": [20.0] + [1.0] * 11,
    "one of 30": [30.0] + [1.0] * 11,
    "one of 1000": [1000.0] + [1.0] * 11,
    "two of 100": [100.0] * 2 + [1.0] * 10,
    "three of 100": [100.0] * 3 + [1.0] * 9,
    "falling": [2.0**-n for n in range(12)],
}


@pytest.mark.parametrize("name", list(WEIGHTS))
def test_few_effective_points_give_the_camera_of_least_squares(name: str):
    generator = torch.Generator().manual_seed(11)
    points = torch.randn(1000, 12, 3, generator=generator)
    camera = Camera(torch.full((1000,), 0.7), torch.zeros(1000, 2), random_rotation((1000,), generator=generator))
    image = project(points, camera) + 0.02 * torch.randn(1000, 12, 2, generator=generator)
    weights = torch.tensor(WEIGHTS[name]).expand(1000, 12)
    solution = solve_pnp(image, points, weights)
    assert solution.valid.float().mean() > 0.99
    assert angles_deg(solution, camera)[solution.valid].gt(15).sum() <= 1


@functools.cache
def best_costs(name: str) -> list[float]:
    """The least weighted squares that SciPy finds from twelve starts."""
    costs = []
    for image, points, weights in zip(*weighted_scene(name), strict=True):
        image, points, root = image.numpy(), points.numpy(), weights.sqrt()[:, None].numpy()

        def residuals(p: np.ndarray, image=image, points=points, root=root) -> np.ndarray:
            shown = np.exp(p[0]) * Rotation.from_rotvec(p[3:]).apply(points)[:, :2] + p[1:3]
            return (root * (shown - image)).ravel()

        starts = Rotation.random(12, random_state=0).as_rotvec()
        found = [least_squares(residuals, [0, *image.mean(0), *turn], method="lm") for turn in starts]
        costs.append(float(2 * min(result.cost for result in found)))
    return costs


def weighted_scene(name: str) -> tuple[Tensor, Tensor, Tensor]:
    image, points, _ = scene((3,), 12, noise=0.01)
    return image, points, torch.tensor(WEIGHTS[name], dtype=torch.float64).expand(3, 12)


@pytest.mark.parametrize("threshold", [0.1, None])
@pytest.mark.parametrize("size", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize("name", list(WEIGHTS))
def test_no_valid_camera_costs_more_than_the_best_of_many_starts(name: str, size: float, threshold: float | None):
    image, points, weights = weighted_scene(name)
    solution = solve_pnp(image.float(), size * points.float(), weights.float() / size, threshold=threshold)
    residual = project(size * points, solution.camera.map(Tensor.double)) - image
    cost = (weights * residual.square().sum(-1)).sum(-1)
    assert solution.valid.all()
    assert solution.inliers.all()
    assert (cost < 1.05 * torch.tensor(best_costs(name), dtype=torch.float64)).all()


def test_weight_two_is_two_points():
    image, points, _ = scene(noise=0.03)
    weights = torch.ones(20, 16, dtype=torch.float64)
    weights[:, 0] = 2
    twice = [torch.cat((field, field[:, :1]), 1) for field in (image, points)]
    one, other = solve_pnp(image, points, weights, threshold=None), solve_pnp(*twice, threshold=None)
    assert_same_camera(one.camera, other.camera)


def test_an_answer_does_not_depend_on_its_neighbors_in_the_batch():
    image, points, _ = scene(noise=0.05, outliers=4, dtype=torch.float32)
    together = solve_pnp(image, points).camera
    alone = solve_pnp(image[7], points[7]).camera
    assert_same_camera(Camera(*(field[7] for field in together)), alone, 1e-5)


def test_an_answer_does_not_depend_on_the_number_of_threads():
    image, points, _ = scene((300,), 64, noise=0.05, outliers=8, dtype=torch.float32)
    before = torch.get_num_threads()
    answers = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            answers.append(solve_pnp(image, points).camera)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*answers, strict=True))


def test_same_answer_twice_and_a_generator_changes_only_the_samples():
    image, points, _ = scene(noise=0.05, outliers=3)
    state = torch.get_rng_state()
    one, two = solve_pnp(image, points), solve_pnp(image, points)
    assert all(torch.equal(a, b) for a, b in zip(one.camera, two.camera, strict=True))
    assert torch.equal(state, torch.get_rng_state())
    other = solve_pnp(image, points, generator=torch.Generator().manual_seed(5))
    assert (geodesic_distance(one.camera.rotation, other.camera.rotation) < 1e-6).double().mean() > 0.9


@pytest.mark.parametrize(("noise", "mean_deg"), [(0.02, 3.0), (0.05, 6.0), (0.1, 11.0)])
def test_a_quarter_of_outliers_does_not_break_it(noise: float, mean_deg: float):
    image, points, camera = scene((500,), 32, noise=noise, outliers=8, dtype=torch.float32)
    solution = solve_pnp(image, points)
    errors = angles_deg(solution, camera)
    assert errors.mean() < mean_deg
    assert (errors > 45).float().mean() < 0.01
    assert solution.inliers[:, :8].float().mean() < 0.25
    assert solution.inliers[:, 8:].float().mean() > 0.95
    assert angles_deg(solve_pnp(image, points, threshold=None), camera).mean() > 2 * mean_deg


def test_noise_as_large_as_the_threshold_is_no_worse_than_least_squares():
    image, points, camera = scene((500,), 32, noise=0.1, dtype=torch.float32)
    robust = angles_deg(solve_pnp(image, points, threshold=0.1), camera)
    plain = angles_deg(solve_pnp(image, points, threshold=None), camera)
    assert robust.mean() < 1.03 * plain.mean()


def test_a_cluster_of_points_seen_from_one_side_keeps_its_depth():
    # A shallow cap: affine least squares cannot tell its depth from noise, orthogonality can.
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(300, 20, 3, generator=generator) * torch.tensor([0.5, 0.5, 0.03])
    camera = Camera(torch.ones(300), torch.zeros(300, 2), random_rotation((300,), generator=generator))
    image = project(points, camera) + 0.01 * torch.randn(300, 20, 2, generator=generator)
    assert angles_deg(solve_pnp(image, points), camera).median() < 3


def test_covariance_foretells_the_error():
    _, points, camera = scene((), 32)
    generator = torch.Generator().manual_seed(1)
    exact = project(points, camera)
    image = exact + 0.01 * torch.randn(2000, 32, 2, generator=generator, dtype=torch.float64)
    solution = solve_pnp(image, points.expand(2000, -1, -1), threshold=None)
    turn = solution.camera.rotation @ camera.rotation.mT
    skew = (turn - turn.mT) / 2
    error = torch.cat(
        (
            (solution.camera.scale / camera.scale).log()[:, None],
            solution.camera.translation - camera.translation,
            torch.stack((skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]), -1),
        ),
        -1,
    )
    expected = solution.covariance.mean(0)
    spread = expected.diagonal().sqrt()
    torch.testing.assert_close(error.mT.cov() / spread / spread[:, None], expected / spread / spread[:, None],
                               atol=0.12, rtol=0)  # fmt: skip


def gradcheck_inputs(count: int = 10, outliers: int = 2) -> list[Tensor]:
    image, points, _ = scene((2,), count, noise=0.05, outliers=outliers, seed=4)
    weights = 0.3 + torch.rand(2, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return [field.requires_grad_() for field in (image, points, weights)]


@pytest.mark.parametrize(("threshold", "outliers"), [(0.1, 2), (None, 0)])
def test_gradient_through_the_optimum(threshold: float | None, outliers: int):
    inputs = gradcheck_inputs(outliers=outliers)
    assert solve_pnp(*inputs, threshold=threshold).valid.all()
    assert torch.autograd.gradcheck(
        lambda *fields: tuple(solve_pnp(*fields, threshold=threshold).camera), inputs, fast_mode=True
    )


@pytest.mark.parametrize(("threshold", "outliers"), [(0.1, 2), (None, 0)])
def test_each_entry_of_the_jacobian(threshold: float | None, outliers: int):
    inputs = [field[0].detach() for field in gradcheck_inputs(outliers=outliers)]

    def camera(*fields: Tensor) -> Tensor:
        solution = solve_pnp(*fields, threshold=threshold).camera
        return torch.cat([field.flatten(-n) if n else field[..., None] for n, field in enumerate(solution)], -1)

    for position, field in enumerate(inputs):
        # One batch holds the point set moved along each of the entries.
        steps = 1e-6 * torch.eye(field.numel(), dtype=field.dtype).reshape(-1, *field.shape)
        many = [other.expand(len(steps), *other.shape) for other in inputs]
        ahead, behind = many.copy(), many.copy()
        ahead[position], behind[position] = field + steps, field - steps
        expected = (camera(*ahead) - camera(*behind)).mT / 2e-6
        actual = torch.autograd.functional.jacobian(
            lambda entry, k=position: camera(*inputs[:k], entry, *inputs[k + 1 :]), field
        )
        torch.testing.assert_close(actual.reshape(expected.shape), expected, atol=1e-6, rtol=1e-6)


def test_what_inference_leaves_behind_does_not_stop_training():
    image, points, _ = scene(noise=0.05)
    with torch.inference_mode():
        solve_pnp(image, points)
    image = image.clone().requires_grad_()
    solve_pnp(image, points).camera.rotation.sum().backward()
    assert image.grad.abs().sum() > 0


def test_attached_camera_has_the_value_of_the_detached_one():
    inputs = gradcheck_inputs()
    with torch.no_grad():
        expected = solve_pnp(*inputs)
    solution = solve_pnp(*inputs)
    assert_same_camera(solution.camera, expected.camera, 1e-14)
    assert not solution.covariance.requires_grad


def degenerate() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    image, points, camera = (t[0] if isinstance(t, Tensor) else t for t in scene((1,), 12, dtype=torch.float32))
    camera = Camera(*(field[0] for field in camera))
    ones = torch.ones(12)
    line = torch.linspace(-1, 1, 12)[:, None] * torch.tensor([0.3, 0.5, 0.2])
    flat = points * torch.tensor([1.0, 1.0, 0.0])
    hole = ones.clone()
    hole[3:] = 0
    nan, infinite = image.clone(), points.clone()
    nan[2:] = math.nan
    infinite[2:, 1] = math.inf
    return {
        "none": (image[:0], points[:0], ones[:0]),
        "one": (image[:1], points[:1], ones[:1]),
        "three": (image[:3], points[:3], ones[:3]),
        "three weights": (image, points, hole),
        "no weight": (image, points, 0 * ones),
        "negative weights": (image, points, -ones),
        "nan weights": (image, points, math.nan * ones),
        "nan": (nan, points, ones),
        "infinite": (image, infinite, ones),
        "line": (project(line, camera), line, ones),
        "plane": (project(flat, camera), flat, ones),
        "tilted plane": (project(flat @ camera.rotation, camera), flat @ camera.rotation, ones),
        "one 3D point": (image, points[:1].expand(12, 3), ones),
        "one 2D point": (image[:1].expand(12, 2), points, ones),
        "all zero": (0 * image, 0 * points, ones),
        "huge": (image, 1e100 * points.double(), ones),
    }


@pytest.mark.parametrize("threshold", [0.1, None])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", list(degenerate()))
def test_degenerate_points_give_a_flagged_finite_answer(name: str, dtype: torch.dtype, threshold: float | None):
    inputs = [field.to(dtype).clone().requires_grad_() for field in degenerate()[name]]
    solution = solve_pnp(*inputs, threshold=threshold)
    assert not solution.valid
    for field in (*solution.camera, solution.covariance):
        assert field.isfinite().all()
    assert solution.camera.scale > 0
    rotation = solution.camera.rotation.detach()
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3, dtype=dtype), atol=1e-4, rtol=0)
    sum(field.sum() for field in solution.camera).backward()
    assert all(field.grad is not None and field.grad.isfinite().all() for field in inputs)


def test_a_plane_gets_one_of_its_two_answers():
    image, flat, _ = degenerate()["plane"]
    solution = solve_pnp(image, flat)
    torch.testing.assert_close(project(flat, solution.camera), image, atol=1e-4, rtol=0)


def test_entries_that_are_not_finite_count_as_absent():
    image, points, camera = scene((3,), 12)
    weights = torch.ones(3, 12, dtype=torch.float64)
    image[0, 0, 1], points[1, 5, 2], weights[2, 7] = math.nan, math.inf, math.nan
    inputs = [field.requires_grad_() for field in (image, points, weights)]
    solution = solve_pnp(*inputs)
    assert solution.valid.all()
    assert_same_camera(solution.camera, camera, 1e-9)
    assert solution.inliers.sum(-1).tolist() == [11, 11, 11]
    sum(field.sum() for field in solution.camera).backward()
    assert all(field.grad is not None and field.grad.isfinite().all() for field in inputs)


def test_a_degenerate_problem_does_not_touch_its_neighbors():
    image, points, camera = scene((2,), 12)
    image[0] = math.nan
    solution = solve_pnp(image, points)
    assert solution.valid.tolist() == [False, True]
    assert_same_camera(Camera(*(f[1] for f in solution.camera)), Camera(*(f[1] for f in camera)), 1e-9)


@pytest.mark.parametrize("shrink", [0.0, 1e-10, 1e-20, 1e-30, 1e-44])
def test_a_collapsed_object_does_not_touch_its_neighbors(shrink: float):
    image, points, _ = scene((20,), 12, noise=0.02, dtype=torch.float32)
    expected = solve_pnp(image, points)
    points[3] *= shrink
    solution = solve_pnp(image, points)
    others = torch.arange(20) != 3
    assert solution.valid[others].all()
    assert all(field.isfinite().all() for field in solution.camera)
    assert_same_camera(solution.camera.at(others), expected.camera.at(others), 1e-6)


def test_an_empty_batch():
    solution = solve_pnp(torch.zeros(0, 8, 2), torch.zeros(0, 8, 3))
    assert solution.valid.shape == (0,)


def test_float32_under_autocast():
    image, points, camera = scene((4,), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        solution = solve_pnp(image, points)
    assert solution.camera.rotation.dtype == torch.float32
    assert_same_camera(solution.camera, camera, 1e-5)
    assert solve_pnp(image.bfloat16(), points).camera.scale.dtype == torch.float32


def test_settings_are_checked():
    image, points, _ = scene(())
    with pytest.raises(ValueError, match=r"positive threshold; got 0\.0"):
        solve_pnp(image, points, threshold=0.0)
    with pytest.raises(ValueError, match="at least one hypothesis; got 0"):
        solve_pnp(image, points, hypotheses=0)


@pytest.mark.parametrize(
    ("image", "points", "weights"),
    [
        ((2, 6, 2), (6, 2, 3), None),
        ((2, 6, 2), (6, 3), None),
        ((2, 6, 2), (2, 5, 3), None),
        ((2, 6, 3), (2, 6, 3), None),
        ((6,), (6, 3), None),
        ((2, 6, 2), (2, 6, 3), (6, 2)),
        ((2, 6, 2), (2, 6, 3), (12,)),
    ],
)
def test_shapes_are_checked(image, points, weights):
    unchecked = inspect.unwrap(solve_pnp)  # as users run it, without the check of annotations
    with pytest.raises(ValueError, match=r"solve_pnp needs .*got"):
        unchecked(torch.rand(image), torch.rand(points), None if weights is None else torch.rand(weights))
