import math

import pytest
import roma
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from kpose.geometry import (
    axis_angle_to_matrix,
    geodesic_distance,
    gram_schmidt,
    matrix_to_axis_angle,
    matrix_to_quaternion,
    matrix_to_viewpoint,
    procrustes,
    quaternion_to_matrix,
    random_rotation,
    rotation_grid,
    viewpoint_to_matrix,
)
from kpose.geometry.rotation import mirror_rotation

MAPS = {quaternion_to_matrix: (4,), gram_schmidt: (6,), procrustes: (3, 3), axis_angle_to_matrix: (3,)}


def rotations(*size: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return random_rotation(size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normal(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=dtype)


def assert_rotation(rotation: Tensor, atol: float) -> None:
    eye = torch.eye(3, dtype=rotation.dtype).expand_as(rotation)
    torch.testing.assert_close(rotation @ rotation.mT, eye, atol=atol, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones_like(rotation[..., 0, 0]), atol=atol, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("to_rotation", MAPS)
@pytest.mark.parametrize("batch", [(), (7,), (2, 3)])
def test_maps_give_rotations(to_rotation, batch: tuple[int, ...], dtype: torch.dtype):
    rotation = to_rotation(3 * normal(*batch, *MAPS[to_rotation], dtype=dtype))
    assert rotation.shape == (*batch, 3, 3)
    assert rotation.dtype == dtype
    assert_rotation(rotation, 100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("to_rotation", MAPS)
def test_maps_have_exact_gradients(to_rotation):
    raw = normal(3, *MAPS[to_rotation]).requires_grad_()
    assert torch.autograd.gradcheck(to_rotation, raw)


DEGENERATE = {
    "quaternion zero": (quaternion_to_matrix, [0.0] * 4),
    "quaternion denormal": (quaternion_to_matrix, [1e-25, 0.0, 0.0, 0.0]),
    "quaternion identity": (quaternion_to_matrix, [1.0, 0.0, 0.0, 0.0]),
    "quaternion half turn": (quaternion_to_matrix, [0.0, 1.0, 0.0, 0.0]),
    "axis-angle zero": (axis_angle_to_matrix, [0.0] * 3),
    "axis-angle tiny": (axis_angle_to_matrix, [1e-20, 0.0, 0.0]),
    "axis-angle half turn": (axis_angle_to_matrix, [math.pi, 0.0, 0.0]),
    "6D zero": (gram_schmidt, [0.0] * 6),
    "6D zero first": (gram_schmidt, [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]),
    "6D zero first, x second": (gram_schmidt, [0.0, 0.0, 0.0, 1.0, 0.0, 0.0]),
    "6D zero second": (gram_schmidt, [1.0, 2.0, 3.0, 0.0, 0.0, 0.0]),
    "6D collinear": (gram_schmidt, [1.0, 2.0, 3.0, 2.0, 4.0, 6.0]),
    "6D opposite": (gram_schmidt, [1.0, 0.0, 0.0, -1.0, 0.0, 0.0]),
    "6D identity": (gram_schmidt, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
    "9D zero": (procrustes, [[0.0] * 3] * 3),
    "9D identity": (procrustes, torch.eye(3).tolist()),
    "9D mirror": (procrustes, torch.diag(torch.tensor([-1.0, 1.0, 1.0])).tolist()),
    "9D point mirror": (procrustes, (-torch.eye(3)).tolist()),
    "9D collinear columns": (procrustes, [[1.0, 2.0, 3.0]] * 3),
    "9D two equal values, negative": (procrustes, torch.diag(torch.tensor([2.0, 1.0, -1.0])).tolist()),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_input_gives_a_rotation_and_a_finite_gradient(name: str, dtype: torch.dtype):
    to_rotation, values = DEGENERATE[name]
    raw = torch.tensor(values, dtype=dtype, requires_grad=True)
    rotation = to_rotation(raw)
    assert_rotation(rotation.detach(), 1e-5)
    (rotation * normal(3, 3, dtype=dtype)).sum().backward()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_convention_quaternion_is_scalar_first():
    # A quarter turn about x takes y to z. SciPy and roma put the scalar last; read so, this is a turn about y.
    half = math.sqrt(0.5)
    rotation = quaternion_to_matrix(torch.tensor([half, half, 0.0, 0.0]))
    torch.testing.assert_close(rotation @ torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 1.0]))
    misread = Rotation.from_quat([half, half, 0.0, 0.0]).apply([0.0, 1.0, 0.0])
    torch.testing.assert_close(torch.from_numpy(misread).float(), torch.tensor([1.0, 0.0, 0.0]))


def test_quaternions_agree_with_scipy_and_roma():
    quaternion = torch.nn.functional.normalize(normal(20, 4), dim=-1)
    rotation = quaternion_to_matrix(quaternion)
    expected = Rotation.from_quat(quaternion[:, [1, 2, 3, 0]].numpy()).as_matrix()
    torch.testing.assert_close(rotation, torch.from_numpy(expected))
    torch.testing.assert_close(rotation, roma.unitquat_to_rotmat(quaternion.roll(-1, -1)))
    torch.testing.assert_close(quaternion_to_matrix(-3 * quaternion), rotation)


def test_axis_angles_agree_with_scipy():
    axis_angle = normal(20, 3)
    expected = Rotation.from_rotvec(axis_angle.numpy())
    torch.testing.assert_close(axis_angle_to_matrix(axis_angle), torch.from_numpy(expected.as_matrix()))
    torch.testing.assert_close(
        matrix_to_axis_angle(axis_angle_to_matrix(axis_angle)), torch.from_numpy(expected.as_rotvec())
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_round_trips(dtype: torch.dtype):
    rotation = rotations(100, dtype=dtype)
    close = {"atol": 50 * torch.finfo(dtype).eps, "rtol": 0}
    quaternion = matrix_to_quaternion(rotation)
    assert (quaternion[:, 0] >= 0).all()
    torch.testing.assert_close(quaternion_to_matrix(quaternion), rotation, **close)
    torch.testing.assert_close(axis_angle_to_matrix(matrix_to_axis_angle(rotation)), rotation, **close)
    torch.testing.assert_close(viewpoint_to_matrix(*matrix_to_viewpoint(rotation)), rotation, **close)
    torch.testing.assert_close(gram_schmidt(rotation.mT[:, :2].flatten(1)), rotation, **close)
    torch.testing.assert_close(procrustes(rotation), rotation, **close)


def test_half_turns_survive_the_round_trip():
    turns = axis_angle_to_matrix(math.pi * torch.nn.functional.normalize(normal(20, 3), dim=-1))
    torch.testing.assert_close(axis_angle_to_matrix(matrix_to_axis_angle(turns)), turns)
    torch.testing.assert_close(quaternion_to_matrix(matrix_to_quaternion(turns)), turns)
    torch.testing.assert_close(matrix_to_axis_angle(turns).norm(dim=-1), torch.full((20,), math.pi).double())


def test_convention_6d_is_the_first_two_columns():
    rotation = rotations()
    torch.testing.assert_close(gram_schmidt(torch.cat((rotation[:, 0], rotation[:, 1]))), rotation)
    # The rows, as PyTorch3D stores them, give the inverse.
    torch.testing.assert_close(gram_schmidt(torch.cat((rotation[0], rotation[1]))), rotation.mT)


def test_gram_schmidt_ignores_lengths_and_keeps_the_first_column():
    raw = normal(10, 6)
    rotation = gram_schmidt(raw)
    torch.testing.assert_close(rotation[..., 0], torch.nn.functional.normalize(raw[:, :3], dim=-1))
    scaled = torch.cat((5 * raw[:, :3], 0.1 * raw[:, 3:] + 2 * raw[:, :3]), -1)
    torch.testing.assert_close(gram_schmidt(scaled), rotation)


def test_procrustes_gives_the_nearest_rotation():
    raw = normal(30, 3, 3)
    nearest = (procrustes(raw) - raw).square().sum((-2, -1))
    others = (rotations(2000)[:, None] - raw).square().sum((-2, -1))
    assert (nearest <= others.min(0).values + 1e-12).all()


def test_what_inference_leaves_behind_does_not_stop_training():
    for function in vars(roma.mappings).values():
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    with torch.inference_mode():
        procrustes(torch.eye(3))
    raw = (2 * torch.eye(3)).requires_grad_()
    procrustes(raw).sum().backward()
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize("base", [0, 1, 2])
def test_geodesic_distance_is_exact_in_float32(base: int):
    angles = torch.cat((torch.logspace(-6, 0, 61), torch.linspace(1, math.pi, 200))).double()
    angles = torch.cat((angles, math.pi - torch.logspace(-6, -1, 51).double()))
    axis = torch.nn.functional.normalize(normal(len(angles), 3), dim=-1)
    first = torch.eye(3, dtype=torch.float64) if base == 0 else rotations(seed=base)
    second = (first @ axis_angle_to_matrix(axis * angles[:, None])).float()
    first = first.float().expand_as(second)
    # The truth is the angle between the matrices as float32 holds them, not as they were before rounding.
    truth = geodesic_distance_of_projections(first, second)
    measured = geodesic_distance(first, second)
    assert measured.dtype == torch.float32
    assert (measured.double() - truth).abs().max() < 1e-6
    assert (measured.double() - angles).abs().max() < 1.5e-6


def geodesic_distance_of_projections(first: Tensor, second: Tensor) -> Tensor:
    one, other = (Rotation.from_matrix(procrustes(r.double()).numpy()) for r in (first, second))
    return torch.from_numpy((one.inv() * other).magnitude())


def test_geodesic_distance_is_a_metric_that_turns_do_not_change():
    one, two, three, turn = (rotations(50, seed=seed) for seed in range(4))
    distance = geodesic_distance(one, two)
    assert (geodesic_distance(one, one) < 1e-12).all()
    assert ((distance >= 0) & (distance <= math.pi)).all()
    torch.testing.assert_close(geodesic_distance(two, one), distance)
    torch.testing.assert_close(geodesic_distance(turn @ one, turn @ two), distance)
    torch.testing.assert_close(geodesic_distance(one @ turn, two @ turn), distance)
    assert (geodesic_distance(one, three) <= distance + geodesic_distance(two, three) + 1e-12).all()
    torch.testing.assert_close(distance, roma.rotmat_geodesic_distance(one, two))


def test_geodesic_distance_has_gradients_also_at_its_ends():
    one, two = (rotations(4, seed=seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(geodesic_distance, (one, two))
    for angle in (0.0, math.pi):
        turned = axis_angle_to_matrix(torch.tensor([angle, 0.0, 0.0])).requires_grad_()
        geodesic_distance(torch.eye(3), turned).backward()
        assert turned.grad is not None
        assert turned.grad.isfinite().all()


def test_a_gradient_step_on_the_distance_comes_nearer():
    vector = torch.tensor([0.0, 2.0, 1.0], requires_grad=True)
    target = torch.eye(3)
    for _ in range(50):
        distance = geodesic_distance(axis_angle_to_matrix(vector), target)
        (gradient,) = torch.autograd.grad(distance, vector)
        vector = (vector - 0.05 * gradient).detach().requires_grad_()
    assert distance < 0.1


def test_viewpoint_zero_shows_the_object_upright_from_the_front():
    zero = torch.zeros(())
    rotation = viewpoint_to_matrix(zero, zero, zero)
    # Object +x to image right, +z to image up (-y), +y away from the viewer (+z).
    expected = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(rotation, expected)


def test_positive_elevation_brings_the_objects_top_towards_the_viewer():
    zero = torch.zeros(())
    top = torch.tensor([0.0, 0.0, 1.0])
    above, below = (viewpoint_to_matrix(zero, torch.tensor(math.radians(angle)), zero) @ top for angle in (60, -60))
    torch.testing.assert_close(above, torch.tensor([0.0, -0.5, -math.sqrt(0.75)]))  # -z is toward the viewer
    torch.testing.assert_close(below, torch.tensor([0.0, -0.5, math.sqrt(0.75)]))


def test_azimuth_turns_about_the_objects_up_axis_and_roll_in_the_image():
    angle = torch.tensor(0.4)
    zero = torch.zeros(())
    up = torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(viewpoint_to_matrix(angle, zero, zero) @ up, torch.tensor([0.0, -1.0, 0.0]))
    rolled = viewpoint_to_matrix(zero, zero, angle) @ torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(rolled, torch.stack((angle.cos(), angle.sin(), zero)))  # right toward down


def test_grid_of_viewpoints_is_thirty_degrees_apart():
    azimuth = torch.arange(8).double() * math.pi / 4
    elevation = torch.deg2rad(torch.arange(-60.0, 61.0, 30.0)).double()
    grid = viewpoint_to_matrix(*torch.cartesian_prod(azimuth, elevation).mT, torch.zeros(40).double())
    distance = geodesic_distance(grid[:, None].expand(40, 40, 3, 3), grid.expand(40, 40, 3, 3))
    distance.fill_diagonal_(math.inf)
    # 45 degrees of azimuth at an elevation of 60 are nearer than 45; 30 of elevation are the nearest anywhere.
    torch.testing.assert_close(distance.amin(1).rad2deg(), torch.full((40,), 30.0).double())


def test_viewpoint_is_q_el_q_az_q_base():
    angles = torch.tensor([0.7, -0.3])
    rotation = viewpoint_to_matrix(angles[0], angles[1], torch.zeros(()))
    expected = (
        Rotation.from_euler("x", -0.3) * Rotation.from_euler("y", 0.7) * Rotation.from_euler("x", math.pi / 2)
    )
    torch.testing.assert_close(rotation.double(), torch.from_numpy(expected.as_matrix()), atol=1e-6, rtol=0)


def test_viewpoint_at_the_poles_is_still_the_rotation():
    azimuth, roll = torch.tensor([0.3, 1.0, -2.0]), torch.tensor([0.5, -1.0, 3.0])
    for pole in (-math.pi / 2, math.pi / 2):
        rotation = viewpoint_to_matrix(azimuth, torch.full((3,), pole), roll)
        angles = matrix_to_viewpoint(rotation)
        torch.testing.assert_close(viewpoint_to_matrix(*angles), rotation, atol=1e-5, rtol=0)


def test_viewpoint_angles_come_back():
    generator = torch.Generator().manual_seed(0)
    azimuth, roll = (2 * math.pi * (torch.rand(50, generator=generator) - 0.5) for _ in range(2))
    elevation = 3.0 * (torch.rand(50, generator=generator) - 0.5)
    found = matrix_to_viewpoint(viewpoint_to_matrix(azimuth, elevation, roll))
    for one, other in zip(found, (azimuth, elevation, roll), strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=0)


def test_viewpoint_gradients():
    angles = tuple(normal(3, 4).unbind(0))
    assert torch.autograd.gradcheck(viewpoint_to_matrix, tuple(a.requires_grad_() for a in angles))
    assert torch.autograd.gradcheck(matrix_to_viewpoint, rotations(3).requires_grad_())


def test_mirror_rotation_mirrors_twice_to_itself_and_is_the_quaternion_rule():
    rotation = rotations(20)
    mirrored = mirror_rotation(rotation)
    assert_rotation(mirrored, 1e-12)
    torch.testing.assert_close(mirror_rotation(mirrored), rotation)
    quaternion = matrix_to_quaternion(rotation) * torch.tensor([1.0, 1.0, -1.0, -1.0])
    torch.testing.assert_close(quaternion_to_matrix(quaternion), mirrored)


def test_random_rotations_are_uniform_and_follow_the_generator():
    generator = torch.Generator().manual_seed(3)
    first = random_rotation((4000,), generator=generator)
    second = random_rotation((4000,), generator=generator)
    again = random_rotation((4000,), generator=torch.Generator().manual_seed(3))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert_rotation(first, 1e-5)
    assert random_rotation((2, 0)).shape == (2, 0, 3, 3)
    # Uniform on SO(3): the angle has density (1 - cos a) / π, mean π/2 + 2/π; the columns have mean zero.
    angle = geodesic_distance(torch.eye(3).expand_as(first), first)
    assert abs(angle.mean() - (math.pi / 2 + 2 / math.pi)) < 0.04
    assert first.mean(0).abs().max() < 0.04


def test_grids_of_rotations_leave_no_gap():
    grid = rotation_grid(2000)
    assert torch.equal(grid, rotation_grid(2000))
    probes = random_rotation((500,), generator=torch.Generator().manual_seed(0))
    angles = geodesic_distance(probes[:, None].expand(-1, 2000, 3, 3), grid.expand(500, -1, 3, 3))
    nearest = torch.rad2deg(angles.amin(-1))
    assert nearest.mean() < 11
    assert nearest.max() < 20
    # Of rotations that are uniform, a share of (angle - sin(angle)) / pi lies within an angle of any rotation.
    within = (angles < 1).float().mean(-1)
    expected = (1 - torch.tensor(1.0).sin()) / torch.pi
    torch.testing.assert_close(within, expected.expand(500), atol=0.01, rtol=0)


def test_a_grid_needs_rotations():
    torch.testing.assert_close(rotation_grid(1).mT @ rotation_grid(1), torch.eye(3)[None])
    with pytest.raises(ValueError, match="positive number of rotations; got 0"):
        rotation_grid(0)


HALF = {
    "6D zeros": (gram_schmidt, [0.0] * 6),
    "6D second column zero": (gram_schmidt, [1.0, 0, 0, 0, 0, 0]),
    "6D parallel columns": (gram_schmidt, [1.0, 2, 3, 2, 4, 6]),
    "6D nearly parallel columns": (gram_schmidt, [1.0, 0, 0, 1, 1e-3, 0]),
    "6D long": (gram_schmidt, [300.0, 0, 0, 0, 300, 0]),
    "6D short": (gram_schmidt, [1e-3, 0, 0, 0, 1e-3, 0]),
    "quaternion short": (quaternion_to_matrix, [0.0, 0.005, 0, 0]),
    "quaternion long": (quaternion_to_matrix, [0.0, 300, 0, 0]),
    "matrix": (procrustes, [[300.0, 1, 0], [0, 300, 0], [0, 0, 2]]),
    "axis-angle": (axis_angle_to_matrix, [1e-3, 0, 0]),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", list(HALF))
def test_half_precision_gives_the_rotation_of_single_precision(name: str, dtype: torch.dtype):
    function, numbers = HALF[name]
    raw = torch.tensor(numbers, dtype=dtype, requires_grad=True)
    rotation = function(raw)
    assert rotation.dtype == dtype
    expected = function(raw.detach().float())
    torch.testing.assert_close(rotation.float(), expected, atol=torch.finfo(dtype).eps, rtol=0)
    rotation.float().sum().backward()
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize("length", [1e10, 1e20, 1e30])
def test_lengths_whose_squares_overflow(length: float):
    columns = torch.tensor([1.0, 2, 3, -1, 4, 2])
    quaternion = torch.tensor([0.5, -1, 2, 3])
    for function, numbers in ((gram_schmidt, columns), (quaternion_to_matrix, quaternion)):
        raw = (length * numbers).requires_grad_()
        rotation = function(raw)
        torch.testing.assert_close(rotation, function(numbers), atol=1e-6, rtol=0)
        rotation[0].sum().backward()
        assert raw.grad.isfinite().all()
    half_turn = quaternion_to_matrix(torch.tensor([0.0, length, 0, 0]))
    torch.testing.assert_close(half_turn, torch.diag(torch.tensor([1.0, -1, -1])))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_distances_in_half_precision(dtype: torch.dtype):
    eye = torch.eye(3, dtype=dtype)
    assert geodesic_distance(eye, eye) < 1e-3
    turned = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 0.5]))
    assert abs(geodesic_distance(eye, turned.to(dtype)).item() - 0.5) < 0.01
    with torch.autocast("cpu", torch.bfloat16):
        assert abs(geodesic_distance(torch.eye(3), turned).item() - 0.5) < 1e-6
