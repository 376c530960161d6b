import math
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from kpose.geometry import apply_crop, crop_camera, project, random_rotation, uncrop_camera
from kpose.reconstruction import CameraMultiplex, ViewpointGrid
from kpose.structures import Camera, Crop

GRID = ViewpointGrid(azimuths=3, elevations=2)


def table(images: int = 5, seed: int = 0) -> CameraMultiplex:
    """Give a table of random cameras, residuals and losses."""
    multiplex = CameraMultiplex(
        torch.arange(images) * 10 + 3, names=[f"bird {i}" for i in range(images)], grid=GRID
    )
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(images)
    shape = (images, multiplex.num_cameras)
    cameras = Camera(
        0.5 + torch.rand(shape, generator=generator),
        torch.randn(*shape, 2, generator=generator) * 0.1,
        random_rotation(shape, generator=generator),
    )
    multiplex.refer(
        rows, Crop(torch.rand(images, generator=generator) + 0.1, torch.randn(images, 2, generator=generator))
    )
    multiplex.replace(rows, cameras, torch.rand(shape, generator=generator))
    multiplex.residual.copy_(torch.randn(*shape, 6, generator=generator) * 0.1)
    return multiplex


def state(multiplex: CameraMultiplex) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in multiplex.named_buffers()}


def test_every_image_starts_with_the_grid():
    multiplex = CameraMultiplex(torch.tensor([9, 4]))
    cameras = multiplex.cameras(torch.tensor([0, 1]))
    assert (cameras.scale == 0.8).all()
    assert (cameras.translation == 0).all()
    torch.testing.assert_close(cameras.rotation, ViewpointGrid().rotations().expand(2, 40, 3, 3))
    assert not multiplex.seen.any()


def test_nothing_in_the_table_is_a_parameter():
    assert list(table().parameters()) == []


def test_rows_are_found_by_identity_whatever_the_order():
    multiplex = CameraMultiplex(torch.tensor([30, 10, 20]), names=["c", "a", "b"])
    assert multiplex.rows(torch.tensor([20, 10, 20])).tolist() == [1, 0, 1]
    assert multiplex.names == ("a", "b", "c")


def test_an_unknown_image_is_named():
    with pytest.raises(ValueError, match=r"no index \[11\]"):
        table().rows(torch.tensor([3, 11]))


@pytest.mark.parametrize(("index", "names"), [([1, 1], None), ([1, 2], ["a", "a"]), ([1, 2], ["a"])])
def test_identities_must_be_distinct(index, names):
    with pytest.raises(ValueError, match="distinct"):
        CameraMultiplex(torch.tensor(index), names=names)


def test_a_step_moves_the_rows_of_the_batch_only():
    multiplex = table()
    rows = torch.tensor([1, 4])
    for _ in range(3):  # momentum has built up by the second step
        multiplex.step(rows, torch.randn(2, 6, 6), lr=0.1)
    before = state(multiplex)
    multiplex.step(torch.tensor([4]), torch.ones(1, 6, 6), lr=0.1)
    after = state(multiplex)
    for name in ("residual", "moment", "square", "steps"):
        others = torch.tensor([0, 1, 2, 3])
        assert torch.equal(before[name][others], after[name][others]), name
        assert not torch.equal(before[name][4], after[name][4])


def test_steps_are_those_of_adam():
    multiplex = table()
    gradients = torch.randn(7, 2, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    multiplex.double()
    rows = torch.tensor([2, 0])
    expected = multiplex.residual[rows].clone().requires_grad_()
    adam = torch.optim.Adam([expected], lr=0.03)
    for gradient in gradients:
        expected.grad = gradient
        adam.step()
        multiplex.step(rows, gradient, lr=0.03)
    torch.testing.assert_close(multiplex.residual[rows], expected.detach())


def test_a_repeated_image_moves_by_its_mean_gradient():
    once, twice = table(), table()
    gradient = torch.randn(2, 6, 6)
    once.step(torch.tensor([1]), gradient.mean(0, keepdim=True), lr=0.1)
    twice.step(torch.tensor([1, 1]), gradient, lr=0.1)
    torch.testing.assert_close(once.residual, twice.residual)


def test_a_gradient_that_is_not_finite_moves_nothing():
    multiplex = table()
    gradient = torch.ones(2, 6, 6)
    gradient[0, 3, 2] = math.nan
    before = state(multiplex)
    multiplex.step(torch.tensor([0, 1]), gradient, lr=0.1)
    assert torch.equal(multiplex.residual[0], before["residual"][0])
    assert not torch.equal(multiplex.residual[1], before["residual"][1])


def test_gradients_reach_the_residuals():
    multiplex = table()
    rows = torch.tensor([1, 2])
    residuals = multiplex.residuals(rows)
    points = torch.randn(2, 6, 4, 3)
    project(points, multiplex.cameras(rows, residuals)).square().sum().backward()
    assert residuals.grad is not None
    assert (residuals.grad.abs().amax((0, 1)) > 0).all()
    assert multiplex.residual.grad is None


@pytest.mark.parametrize("flipped", [False, True])
def test_cameras_follow_the_crop(flipped):
    multiplex = table()
    rows = torch.tensor([3])
    reference = Crop(multiplex.crop_scale[rows][:, None], multiplex.crop_translation[rows][:, None])
    crop = Crop(torch.tensor([0.7]), torch.tensor([[0.3, -0.2]]))
    cameras = multiplex.cameras(rows)
    # Symmetric points, so that a mirrored image shows the same set.
    points = torch.randn(1, 6, 8, 3)
    points = torch.cat((points, points * torch.tensor([-1.0, 1, 1])), -2)
    wide = Crop(crop.scale[:, None], crop.translation[:, None])
    expected = apply_crop(project(points, uncrop_camera(cameras, reference)), wide)
    if flipped:
        expected = expected.roll(8, -2) * torch.tensor([-1.0, 1.0])
    mapped = multiplex.in_crop(cameras, rows, crop, torch.tensor([flipped]))
    torch.testing.assert_close(project(points, mapped), expected, atol=1e-4, rtol=1e-4)


def test_autocast_does_not_round_cameras():
    multiplex, rows = table(), torch.tensor([0, 2])
    multiplex.residual.normal_()
    multiplex.refer(rows, Crop(torch.rand(2) + 1, torch.rand(2, 2)))
    crop, flipped = Crop(torch.rand(2) + 1, torch.rand(2, 2)), torch.tensor([True, False])
    expected = multiplex.in_crop(multiplex.cameras(rows), rows, crop, flipped)
    with torch.autocast("cpu", torch.bfloat16):
        found = multiplex.in_crop(multiplex.cameras(rows), rows, crop, flipped)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_images_without_a_reference_crop_are_refused():
    multiplex = CameraMultiplex(torch.tensor([1]), grid=GRID)
    with pytest.raises(ValueError, match="camera search"):
        multiplex.in_crop(
            multiplex.cameras(torch.tensor([0])), torch.tensor([0]), Crop(torch.ones(1), torch.zeros(1, 2))
        )


def test_settling_changes_no_camera_and_starts_residuals_afresh():
    multiplex = table()
    before, losses = multiplex.cameras(torch.arange(5), gain=0.3), multiplex.losses.clone()
    multiplex.settle(gain=0.3)
    for old, new in zip(before, multiplex.cameras(torch.arange(5)), strict=True):
        torch.testing.assert_close(new, old)
    assert not multiplex.residual.any()
    assert torch.equal(multiplex.losses, losses)


def test_pruning_keeps_the_best_cameras_and_their_losses():
    multiplex = table()
    rows = torch.arange(5)
    before, losses = multiplex.cameras(rows), multiplex.losses.clone()
    best = multiplex.best()
    multiplex.prune(2)
    order = losses.argsort(1)[:, :2]
    torch.testing.assert_close(multiplex.losses, losses.gather(1, order))
    for old, new in zip(before, multiplex.cameras(rows), strict=True):
        torch.testing.assert_close(new, old[rows[:, None], order])
    torch.testing.assert_close(multiplex.best().rotation, best.rotation)
    multiplex.step(rows, torch.ones(5, 2, 6), lr=0.1)


def test_pruning_needs_losses_and_a_sensible_number():
    with pytest.raises(ValueError, match="5 of 5"):
        CameraMultiplex(torch.arange(5), grid=GRID).prune(2)
    with pytest.raises(ValueError, match="between 1 and 6"):
        table().prune(7)


def test_checkpoints_resume_exactly_also_after_pruning():
    multiplex = table()
    multiplex.prune(4)
    multiplex.step(torch.tensor([1]), torch.ones(1, 4, 6), lr=0.1)
    fresh = CameraMultiplex(multiplex.index, names=[f"other {i}" for i in range(5)], grid=GRID)
    fresh.load_state_dict(multiplex.state_dict())
    assert fresh.names == multiplex.names
    for one in (multiplex, fresh):
        one.step(torch.tensor([1, 2]), torch.full((2, 4, 6), 0.3), lr=0.1)
    for name, buffer in multiplex.named_buffers():
        assert torch.equal(buffer, dict(fresh.named_buffers())[name]), name


def test_files_carry_cameras_by_name(tmp_path: Path):
    multiplex = table()
    multiplex.save(tmp_path / "cameras.safetensors")
    other = CameraMultiplex(torch.tensor([50, 40]), names=["bird 1", "bird 4"])  # other rows, other grid
    other.load(tmp_path / "cameras.safetensors")
    expected, found = multiplex.cameras(torch.tensor([4, 1])), other.cameras(torch.tensor([0, 1]))
    for old, new in zip(expected, found, strict=True):
        torch.testing.assert_close(new, old)
    assert torch.equal(other.losses, multiplex.losses[[4, 1]])
    assert torch.equal(other.crop_scale, multiplex.crop_scale[[4, 1]])
    assert [path.name for path in tmp_path.iterdir()] == ["cameras.safetensors"]


def test_bad_files_are_named(tmp_path: Path):
    multiplex = table()
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        multiplex.load(tmp_path / "missing.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"bad\.safetensors"):
        multiplex.load(tmp_path / "bad.safetensors")
    table(3).save(tmp_path / "few.safetensors")
    with pytest.raises(ValueError, match="lacks 2 of 5, such as 'bird 3'"):
        multiplex.load(tmp_path / "few.safetensors")


def _update(multiplex: CameraMultiplex, order: list[int]) -> None:
    """Do to some images what depends on the image alone."""
    rows = torch.tensor(order)
    gradient = torch.stack([torch.full((6, 6), 0.1 * (row + 1)) for row in order])
    multiplex.refer(rows, Crop(rows + 1.0, torch.stack((rows, rows), -1).float()))
    for _ in range(2):
        multiplex.step(rows, gradient, lr=0.05)
    multiplex.record(rows, gradient[..., 0])


def _rank(rank: int, port_file: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{port_file}", rank=rank, world_size=2)
    multiplex = table()
    _update(multiplex, [0, 3, 1] if rank == 0 else [2, 4])  # uneven, as a last batch is
    torch.save(state(multiplex), f"{out}{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_give_the_table_of_one(tmp_path: Path):
    mp.spawn(_rank, (str(tmp_path / "port"), str(tmp_path / "rank")), nprocs=2)
    alone = table()
    _update(alone, [0, 1, 2, 3, 4])
    for rank in (0, 1):
        found = torch.load(tmp_path / f"rank{rank}.pt", weights_only=True)
        for name, buffer in alone.named_buffers():
            assert torch.equal(found[name], buffer), (rank, name)


def test_cropping_agrees_with_the_camera_module():
    multiplex = table()
    rows = torch.tensor([2])
    multiplex.refer(rows, Crop(torch.ones(1), torch.zeros(1, 2)))
    crop = Crop(torch.tensor([0.4]), torch.tensor([[0.5, 0.1]]))
    cameras = multiplex.cameras(rows)
    expected = crop_camera(cameras, Crop(crop.scale[:, None], crop.translation[:, None]))
    for old, new in zip(expected, multiplex.in_crop(cameras, rows, crop), strict=True):
        torch.testing.assert_close(new, old)
