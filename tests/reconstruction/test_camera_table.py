from pathlib import Path

import pytest
import torch
from processes import in_two_processes, join
from reconstruction.tables import GRID, state, table

from kpose.geometry import apply_crop, crop_camera, geodesic_distance, project, uncrop_camera
from kpose.reconstruction import CameraTable, ViewpointGrid
from kpose.reconstruction.camera_files import read_cameras, write_cameras
from kpose.structures import Crop


def test_every_image_starts_with_the_grid():
    made = CameraTable(torch.tensor([9, 4]))
    cameras = made.cameras(torch.tensor([0, 1]))
    assert (cameras.scale == 0.8).all()
    assert (cameras.translation == 0).all()
    torch.testing.assert_close(cameras.rotation, ViewpointGrid().rotations().expand(2, 40, 3, 3))
    assert not made.scored.any()


def test_nothing_in_the_table_is_a_parameter():
    assert list(table().parameters()) == []


def test_rows_are_found_by_identity_whatever_the_order():
    made = CameraTable(torch.tensor([30, 10, 20]), names=["c", "a", "b"])
    assert made.rows(torch.tensor([20, 10, 20])).tolist() == [1, 0, 1]
    assert made.names == ("a", "b", "c")


def test_an_unknown_image_is_named():
    with pytest.raises(ValueError, match=r"no index \[11\]"):
        table().rows(torch.tensor([3, 11]))


@pytest.mark.parametrize(("index", "names"), [([1, 1], None), ([1, 2], ["a", "a"]), ([1, 2], ["a"])])
def test_identities_must_be_distinct(index, names):
    with pytest.raises(ValueError, match="distinct"):
        CameraTable(torch.tensor(index), names=names)


def test_a_data_set_has_to_name_its_images():
    with pytest.raises(TypeError, match="data set with `indices` and `names`; got list"):
        CameraTable.for_images([1, 2])


@pytest.mark.parametrize("flipped", [False, True])
def test_cameras_follow_the_crop(flipped):
    made = table()
    rows = torch.tensor([3])
    reference = made.reference_crop.at(rows[:, None])
    crop = Crop(torch.tensor([0.7]), torch.tensor([[0.3, -0.2]]))
    cameras = made.cameras(rows)
    # Symmetric points, so that a mirrored image shows the same set.
    points = torch.randn(1, 6, 8, 3)
    points = torch.cat((points, points * torch.tensor([-1.0, 1, 1])), -2)
    wide = Crop(crop.scale[:, None], crop.translation[:, None])
    expected = apply_crop(project(points, uncrop_camera(cameras, reference)), wide)
    if flipped:
        expected = expected.roll(8, -2) * torch.tensor([-1.0, 1.0])
    mapped = made.in_crop(cameras, rows, crop, torch.tensor([flipped]))
    torch.testing.assert_close(project(points, mapped), expected, atol=1e-4, rtol=1e-4)


def test_cropping_equals_that_of_the_camera_module():
    made = table()
    rows = torch.tensor([2])
    made.set_reference_crop(rows, Crop(torch.ones(1), torch.zeros(1, 2)))
    crop = Crop(torch.tensor([0.4]), torch.tensor([[0.5, 0.1]]))
    cameras = made.cameras(rows)
    expected = crop_camera(cameras, Crop(crop.scale[:, None], crop.translation[:, None]))
    for old, new in zip(expected, made.in_crop(cameras, rows, crop), strict=True):
        torch.testing.assert_close(new, old)


def test_images_without_a_reference_crop_are_refused():
    made = CameraTable(torch.tensor([1]), grid=GRID)
    with pytest.raises(ValueError, match="camera search"):
        made.in_crop(made.cameras(), torch.tensor([0]), Crop(torch.ones(1), torch.zeros(1, 2)))


def test_labels_are_the_best_cameras_in_the_crops_of_the_batch():
    made, rows = table(), torch.tensor([4, 1])
    batch = {
        "index": made.index[rows],
        "crop": Crop(torch.tensor([0.7, 2.0]), torch.randn(2, 2)),
        "flipped": torch.tensor([True, False]),
    }
    every = made.in_crop(made.cameras(rows), rows, batch["crop"], batch["flipped"])
    expected = every.at((torch.arange(2), made.score[rows].argmin(-1)))
    for old, new in zip(expected, made.labels(batch), strict=True):
        assert torch.equal(old, new)


def test_scores_set_the_order_of_some_images():
    made = table()
    before = state(made)
    made.set_score(torch.tensor([2]), torch.tensor([[0.5, 0.1, 0.5, 0.9, 0.1, 0.0]]))
    assert made.order[2].tolist() == [5, 1, 4, 0, 2, 3]  # equal scores by their place
    others = torch.tensor([0, 1, 3, 4])
    for name in ("score", "order"):
        assert torch.equal(getattr(made, name)[others], before[name][others])


def test_the_order_outranks_the_scores():
    made, other = table(), table(seed=1)
    other.prune(1)
    before, worst = made.score.clone(), made.score.argmax(-1)
    made.add_best(other)
    rows = torch.arange(5)
    assert torch.equal(made.order[:, 0], worst)
    assert torch.equal(made.order[:, 1], before.argmin(-1))
    assert torch.equal(made.score[rows, worst], before.amin(-1))  # no lower than that of the second
    expected = other.in_crop(other.cameras(), rows, made.reference_crop)
    for new, best in zip(expected, made.best(), strict=True):
        assert torch.equal(new[:, 0], best)
    best = made.best()
    made.prune(1)
    assert torch.equal(made.rotation[:, 0], best.rotation)


def test_an_added_camera_replaces_a_single_one():
    made, other = table(), table(seed=1)
    for one in (made, other):
        one.prune(1)
    made.add_best(other)
    torch.testing.assert_close(made.rotation, other.rotation)
    assert made.scored.all()


def test_pruning_keeps_the_best_cameras_and_their_scores():
    made, rows = table(), torch.arange(5)
    before, score, best = made.cameras(), made.score.clone(), made.best()
    made.prune(2)
    order = score.argsort(1)[:, :2]
    assert torch.equal(made.score, score.gather(1, order))
    assert made.order.tolist() == [[0, 1]] * 5
    for old, new in zip(before, made.cameras(), strict=True):
        assert torch.equal(new, old[rows[:, None], order])
    assert torch.equal(made.best().rotation, best.rotation)


def test_pruned_cameras_are_apart():
    made = table()
    made.rotation[:, 1:3] = made.rotation[:, :1]
    made.set_score(torch.arange(5), torch.arange(6.0).expand(5, 6))
    made.prune(2, min_angle_deg=5.0)
    angle = geodesic_distance(made.rotation[:, 0], made.rotation[:, 1])
    assert (angle > 0.09).all()


def test_pruning_needs_scores_and_a_sensible_number():
    with pytest.raises(ValueError, match="5 of 5"):
        CameraTable(torch.arange(5), grid=GRID).prune(2)
    with pytest.raises(ValueError, match="between 1 and 6"):
        table().prune(7)


def test_a_reset_forgets_scores_and_order():
    made = table()
    made.reset(table(seed=1).cameras().at((slice(None), slice(2))))
    assert made.num_cameras == 2
    assert not made.scored.any()
    assert made.order.tolist() == [[0, 1]] * 5


def test_checkpoints_bring_names_and_any_number_of_cameras():
    made = table()
    made.prune(4)
    made.add_best(table(seed=1))
    fresh = CameraTable(made.index, names=[f"other {i}" for i in range(5)], grid=GRID)
    fresh.load_state_dict(made.state_dict())
    assert fresh.names == made.names
    for name, buffer in made.named_buffers():
        assert torch.equal(buffer, fresh.get_buffer(name)), name


def test_files_carry_cameras_by_name(tmp_path: Path):
    made = table()
    made.add_best(table(seed=1))
    made.save(tmp_path / "cameras.safetensors")
    other = CameraTable(torch.tensor([50, 40]), names=["bird 1", "bird 4"])  # other rows, other grid
    other.load(tmp_path / "cameras.safetensors")
    for name in ("scale", "translation", "rotation", "score", "order", "crop_scale", "crop_translation"):
        assert torch.equal(other.get_buffer(name), made.get_buffer(name)[[4, 1]]), name
    assert [path.name for path in tmp_path.iterdir()] == ["cameras.safetensors"]


def test_bad_files_are_named(tmp_path: Path):
    made = table()
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        made.load(tmp_path / "missing.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"bad\.safetensors"):
        made.load(tmp_path / "bad.safetensors")
    table(3).save(tmp_path / "few.safetensors")
    with pytest.raises(ValueError, match="lacks 2 of 5, such as 'bird 3'"):
        made.load(tmp_path / "few.safetensors")
    names, tensors = read_cameras(tmp_path / "few.safetensors")
    tensors["order"][1, 2] = tensors["order"][1, 0]
    write_cameras(tmp_path / "order.safetensors", names, tensors)
    with pytest.raises(ValueError, match="has an order that leaves cameras out"):
        made.load(tmp_path / "order.safetensors")
    write_cameras(tmp_path / "old.safetensors", names, {"losses": tensors["score"]})
    with pytest.raises(ValueError, match=r"holds \['losses'\]"):
        made.load(tmp_path / "old.safetensors")


def update(made: CameraTable, order: list[int]) -> None:
    """Do to some images what depends on the image alone."""
    rows = torch.tensor(order)
    made.set_reference_crop(rows, Crop(rows + 1.0, torch.stack((rows, rows), -1).float()))
    made.set_cameras(rows, table(seed=1).cameras(rows), table(seed=1).score[rows])
    made.set_score(rows[:2], table(seed=2).score[rows[:2]])


def run_rank(rank: int, folder: str) -> None:
    join(rank, folder)
    made = table()
    update(made, [0, 3, 1] if rank == 0 else [2, 4])  # uneven, as a last batch is
    torch.save(state(made), Path(folder, f"{rank}.pt"))


@pytest.mark.ddp
def test_two_processes_give_the_table_of_one(tmp_path: Path):
    in_two_processes(run_rank, tmp_path)
    alone = table()
    update(alone, [0, 3, 1])
    update(alone, [2, 4])
    for rank in (0, 1):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, buffer in alone.named_buffers():
            assert torch.equal(found[name], buffer), (rank, name)
