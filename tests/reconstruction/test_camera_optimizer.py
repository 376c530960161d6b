import math
from pathlib import Path

import pytest
import torch
from processes import in_two_processes, join
from reconstruction.tables import state, table

from kpose.geometry import project
from kpose.reconstruction import CameraOptimizer, CameraTable
from kpose.structures import Camera, Crop

MOVED = ("residual", "moment", "square", "steps", "table.scale", "table.translation", "table.rotation")


def optimizer(**settings) -> CameraOptimizer:
    """Make an optimizer whose residuals are not zero."""
    made = CameraOptimizer(table(), **{"lr": 0.1, **settings})
    made.residual.copy_(torch.randn(5, 6, 6, generator=torch.Generator().manual_seed(3)) * 0.1)
    return made


def test_nothing_of_it_is_a_parameter():
    assert list(optimizer().parameters()) == []


def test_a_step_moves_the_rows_of_the_batch_only():
    made = optimizer()
    rows = torch.tensor([1, 4])
    for _ in range(3):  # momentum has built up by the second step
        made.step(rows, torch.randn(2, 6, 6))
    before = state(made)
    made.step(torch.tensor([4]), torch.ones(1, 6, 6))
    after = state(made)
    others = torch.tensor([0, 1, 2, 3])
    for name in MOVED:
        assert torch.equal(before[name][others], after[name][others]), name
        assert not torch.equal(before[name][4], after[name][4]), name


def test_steps_are_those_of_adam():
    made = optimizer(lr=0.03).double()
    gradients = torch.randn(7, 2, 6, 6, generator=torch.Generator().manual_seed(1)).double()
    rows = torch.tensor([2, 0])
    expected = made.residual[rows].clone().requires_grad_()
    adam = torch.optim.Adam([expected], lr=0.03)
    for gradient in gradients:
        expected.grad = gradient
        adam.step()
        made.step(rows, gradient)
    torch.testing.assert_close(made.residual[rows], expected.detach())


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_the_table_is_up_to_date_whatever_the_gain(gain):
    made, rows = optimizer(gain=gain), torch.tensor([3, 1])
    made.step(rows, torch.ones(2, 6, 6))
    for stored, moved in zip(made.table.cameras(rows), made.cameras(rows), strict=True):
        assert torch.equal(stored, moved)
    batch = {"index": made.table.index[rows], "crop": made.table.reference_crop.at(rows)}
    best = made.cameras(rows).at((torch.arange(2), made.table.order[rows, 0]))
    torch.testing.assert_close(made.table.labels(batch).rotation, best.rotation)


def test_a_repeated_image_moves_by_its_mean_gradient():
    once, twice = optimizer(), optimizer()
    gradient = torch.randn(2, 6, 6)
    once.step(torch.tensor([1]), gradient.mean(0, keepdim=True))
    twice.step(torch.tensor([1, 1]), gradient)
    torch.testing.assert_close(once.residual, twice.residual)


def test_a_gradient_that_is_not_finite_moves_nothing():
    made = optimizer()
    gradient = torch.ones(2, 6, 6)
    gradient[0, 3, 2] = math.nan
    before = state(made)
    made.step(torch.tensor([0, 1]), gradient)
    after = state(made)
    for name in MOVED:
        assert torch.equal(after[name][0], before[name][0]), name
        assert not torch.equal(after[name][1], before[name][1]), name


def test_gradients_reach_the_residuals():
    made = optimizer()
    rows = torch.tensor([1, 2])
    residuals = made.residuals(rows)
    points = torch.randn(2, 6, 4, 3)
    project(points, made.cameras(rows, residuals)).square().sum().backward()
    assert residuals.grad is not None
    assert (residuals.grad.abs().amax((0, 1)) > 0).all()
    assert made.residual.grad is None


def test_autocast_does_not_round_cameras():
    made, rows = optimizer(), torch.tensor([0, 2])
    crop, flipped = Crop(torch.rand(2) + 1, torch.rand(2, 2)), torch.tensor([True, False])

    def seen() -> Camera:
        return made.table.in_crop(made.cameras(rows), rows, crop, flipped)

    expected = seen()
    with torch.autocast("cpu", torch.bfloat16):
        found = seen()
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_folding_changes_no_camera_and_starts_residuals_at_zero():
    made, rows = optimizer(gain=0.3), torch.arange(5)
    made.step(rows, torch.ones(5, 6, 6))
    before, score = made.cameras(rows), made.table.score.clone()
    made.fold_residuals()
    for old, new in zip(before, made.cameras(rows), strict=True):
        torch.testing.assert_close(new, old)
    assert not made.residual.any()
    assert not made.moment.any()
    assert torch.equal(made.table.score, score)


def test_pruned_cameras_go_on_from_where_they_are():
    made, rows = optimizer(), torch.arange(5)
    made.step(rows, torch.ones(5, 6, 6))
    best = made.table.best()
    made.prune(2)
    torch.testing.assert_close(made.cameras(rows).rotation[:, 0], best.rotation)
    made.step(rows, torch.ones(5, 2, 6))
    torch.testing.assert_close(made.cameras(rows).scale[:, 0], best.scale - 0.1)


def test_checkpoints_resume_exactly_also_after_pruning():
    made = optimizer()
    made.prune(4)
    made.step(torch.tensor([1]), torch.ones(1, 4, 6))
    fresh = CameraOptimizer(CameraTable(made.table.index), lr=0.1)
    fresh.load_state_dict(made.state_dict())
    for one in (made, fresh):
        one.step(torch.tensor([1, 2]), torch.full((2, 4, 6), 0.3))
    for name, buffer in made.named_buffers():
        assert torch.equal(buffer, fresh.get_buffer(name)), name


def update(made: CameraOptimizer, order: list[int]) -> None:
    """Do to some images what depends on the image alone."""
    rows = torch.tensor(order)
    gradient = torch.stack([torch.full((6, 6), 0.1 * (row + 1)) for row in order])
    for _ in range(2):
        made.step(rows, gradient)


def run_rank(rank: int, folder: str) -> None:
    join(rank, folder)
    made = optimizer()
    update(made, [0, 3, 1] if rank == 0 else [2, 4])  # uneven, as a last batch is
    torch.save(state(made), Path(folder, f"{rank}.pt"))


@pytest.mark.ddp
def test_two_processes_give_the_cameras_of_one(tmp_path: Path):
    in_two_processes(run_rank, tmp_path)
    alone = optimizer()
    update(alone, [0, 1, 2, 3, 4])
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, buffer in alone.named_buffers():
            assert torch.equal(found[name], buffer), (rank, name)
