import shutil

import pytest
import torch
from fakes import PART_NAMES, PARTS, write_fake_cub
from torch.utils.data import DataLoader

from kpose.data import CUBDataset, read_mean_parts
from kpose.data.cub import read_cameras, read_cub, write_cameras
from kpose.geometry import geodesic_distance, project, uncrop_camera, undo_crop


@pytest.fixture(scope="module")
def fake(tmp_path_factory):
    root = tmp_path_factory.mktemp("cub")
    return root, write_fake_cub(root)


def test_annotations_are_in_photo_pixels(fake):
    root, camera = fake
    notes = read_cub(root)
    assert notes.part_names == PART_NAMES
    assert notes.image_ids == (1, 11, 21, 31, 41, 51, 61, 71)
    assert notes.splits == ("train", "train", "train", "val") * 2
    assert torch.allclose(notes.camera.translation, camera.translation, atol=1e-4)
    assert geodesic_distance(notes.camera.rotation, camera.rotation).max() < 1e-4
    exact = project(PARTS.expand(8, -1, -1), camera)
    visible = notes.parts_visible
    assert (notes.parts - exact)[visible].abs().max() < 0.006  # the file has two decimals
    assert not notes.parts[~visible].any()
    low = torch.where(visible[..., None], notes.parts, torch.inf).amin(1)
    assert (low >= notes.boxes[:, :2]).all()
    assert (notes.boxes[:, 2:] <= torch.tensor([200.0, 200.0])).all()


def test_pixel_k_of_cub_has_its_center_at_k_minus_a_half(tmp_path):
    write_fake_cub(tmp_path, 4, pictures=False)
    lines = (tmp_path / "parts/part_locs.txt").read_text().splitlines()
    lines[0] = "1 1 1.0 7.0 1"
    (tmp_path / "parts/part_locs.txt").write_text("\n".join(lines))
    assert read_cub(tmp_path).parts[0, 0].tolist() == [0.5, 6.5]


def test_lines_may_come_in_any_order(fake, tmp_path):
    root = fake[0]
    shutil.copytree(root, tmp_path / "cub")
    for name in ("parts/part_locs.txt", "bounding_boxes.txt", "train_test_split.txt"):
        lines = (root / name).read_text().splitlines()
        (tmp_path / "cub" / name).write_text("\n".join(reversed(lines)) + "\n\n")
    one, other = read_cub(root), read_cub(tmp_path / "cub")
    assert torch.equal(one.parts, other.parts)
    assert torch.equal(one.boxes, other.boxes)
    assert one.splits == other.splits


def test_splits_without_cameras_come_from_the_official_file(tmp_path):
    write_fake_cub(tmp_path, 12, cameras=False, pictures=False)
    notes = read_cub(tmp_path)
    assert notes.camera is None
    assert notes.splits == ("train",) * 3 + ("val",) + ("train",) * 3 + ("test",) + ("train",) * 3 + ("val",)


def test_an_image_without_camera_is_in_no_split(fake, tmp_path):
    root, camera = fake
    path = tmp_path / "cameras.csv"
    write_cameras(path, [1, 11, 31], ["val", "train", "train"], camera.at([0, 1, 3]))
    notes = read_cub(root, path)
    assert notes.splits == ("val", "train", "", "train", "", "", "", "")
    assert notes.camera.scale.isfinite().tolist() == [True, True, False, True] + [False] * 4
    dataset = CUBDataset(root, "train", image_size=16, cameras=path)
    assert [item["index"].item() for item in DataLoader(dataset, batch_size=None)] == [1, 3]


def test_a_cameras_file_may_lack_the_split(fake, tmp_path):
    lines = (fake[0] / "sfm/cameras.csv").read_text().splitlines()
    short = [",".join(value for k, value in enumerate(line.split(",")) if k != 1) for line in lines]
    (tmp_path / "cameras.csv").write_text("\n".join(short))
    splits = read_cub(fake[0], tmp_path / "cameras.csv").splits
    assert splits == ("train", "train", "train", "val", "train", "train", "train", "test")


def test_cameras_survive_writing(fake, tmp_path):
    notes = read_cub(fake[0])
    broken = notes.camera._replace(scale=notes.camera.scale.index_fill(0, torch.tensor([2]), torch.nan))
    write_cameras(tmp_path / "new" / "cameras.csv", notes.image_ids, notes.splits, broken)
    again, splits = read_cameras(tmp_path / "new" / "cameras.csv", notes.image_ids)
    assert splits == [*notes.splits[:2], "", *notes.splits[3:]]
    assert again.scale[2].isnan()
    keep = torch.arange(8) != 2
    assert torch.allclose(again.translation[keep], notes.camera.translation[keep], atol=1e-5)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["cameras.csv"]


def test_mean_parts_are_read(fake):
    assert torch.allclose(read_mean_parts(fake[0] / "sfm/mean_parts.csv"), PARTS, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["images.txt", "parts/parts.txt", "parts/part_locs.txt", "bounding_boxes.txt", "train_test_split.txt"]
)
def test_a_missing_file_is_named_with_its_command(fake, tmp_path, name):
    write_fake_cub(tmp_path, pictures=False)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{name}.*python -m kpose.data.download"):
        read_cub(tmp_path)


def test_missing_pictures_and_cameras_are_named_with_their_commands(fake, tmp_path):
    write_fake_cub(tmp_path, pictures=False)
    with pytest.raises(FileNotFoundError, match=r"images.*python -m kpose.data.download"):
        CUBDataset(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nothing.csv.*python -m kpose.data.sfm"):
        CUBDataset(fake[0], cameras=tmp_path / "nothing.csv")
    with pytest.raises(FileNotFoundError, match=r"nothing.csv.*python -m kpose.data.sfm"):
        read_mean_parts(tmp_path / "nothing.csv")
    with pytest.raises(ValueError, match=r"split 'test'.*\['train', 'val'\]"):
        CUBDataset(fake[0], "test")


def test_files_that_do_not_belong_together_are_refused(tmp_path):
    write_fake_cub(tmp_path, pictures=False)
    lines = (tmp_path / "parts/part_locs.txt").read_text().splitlines()
    (tmp_path / "parts/part_locs.txt").write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"15 line\(s\)"):
        read_cub(tmp_path)
    (tmp_path / "cameras.csv").write_text("image_id,scale\n1,1\n")
    with pytest.raises(ValueError, match="columns"):
        read_cameras(tmp_path / "cameras.csv", [1])


@pytest.mark.parametrize("padding", [0.0, 0.05, 0.3])
def test_items_are_consistent(fake, padding):
    root, camera = fake
    dataset = CUBDataset(root, "train", image_size=32, padding=padding)
    assert len(dataset) == 6
    assert dataset.part_names == PART_NAMES
    assert all(path.is_file() for path in dataset.image_files)
    notes = dataset.annotations
    for k in range(len(dataset)):
        item = dataset[k]
        row = item["index"].item()
        assert item["image"].shape == (3, 32, 32)
        assert item["image"].dtype == torch.float32
        assert item["mask"].dtype == torch.bool
        assert not item["flipped"]
        visible = item["parts_visible"]
        assert (project(PARTS, item["camera"]) - item["parts"])[visible].abs().max() < 1e-3
        assert torch.allclose(undo_crop(item["parts"], item["crop"])[visible], notes.parts[row][visible], atol=1e-4)
        assert torch.allclose(uncrop_camera(item["camera"], item["crop"]).scale, camera.scale[row], atol=1e-3)
        box = (notes.boxes[row] - notes.boxes[row].view(2, 2).mean(0).repeat(2)).abs().amax()
        assert torch.allclose(1 / item["crop"].scale, box * (1 + 2 * padding))


def test_mask_lies_where_the_annotations_say(fake):
    for item in DataLoader(CUBDataset(fake[0], "train", image_size=64), batch_size=None):
        beak, tail = project(PARTS, item["camera"])[[1, 13]]
        y, x = torch.nonzero(item["mask"]).float().add(0.5).mul(2 / 64).sub(1).mean(0)
        assert ((beak + tail) / 2 - torch.stack((x, y))).abs().max() < 0.05


def test_gray_photos_become_rgb(fake):
    image = CUBDataset(fake[0], "train", image_size=16)[1]["image"]
    assert torch.equal(image[0], image[1])


def test_each_file_is_read_once(fake, tmp_path, monkeypatch):
    root = tmp_path / "cub"
    shutil.copytree(fake[0], root)
    memory = CUBDataset(root, image_size=16)
    disk = CUBDataset(root, image_size=16, cache=tmp_path / "cache")
    never = CUBDataset(root, image_size=16, cache=False)
    first = memory[0]["image"]
    assert torch.equal(first, disk[0]["image"])
    assert torch.equal(first, never[0]["image"])
    shutil.rmtree(root / "images")
    assert torch.equal(first, memory[0]["image"])
    assert torch.equal(first, disk[0]["image"])
    with pytest.raises(FileNotFoundError):
        never[0]
    with pytest.raises(FileNotFoundError):
        memory[1]


def test_real_parts_fall_on_the_masks_and_near_their_cameras(cub_root):
    notes = read_cub(cub_root)
    mean = read_mean_parts(cub_root / "sfm/mean_parts.csv")
    dataset = CUBDataset(cub_root, "val", image_size=64, annotations=notes)
    items = [dataset[k] for k in range(0, len(dataset), 25)]
    distance = torch.cat([
        (project(mean, item["camera"]) - item["parts"]).norm(dim=-1)[item["parts_visible"]] for item in items
    ])  # fmt: skip
    assert distance.median() < 0.1
    inside = []
    for item in items:
        x, y = ((item["parts"][item["parts_visible"]] + 1) * 32).long().clamp(0, 63).unbind(-1)
        grown = torch.nn.functional.max_pool2d(item["mask"][None].float(), 5, 1, 2)[0] > 0
        inside.append(grown[y, x])
    assert torch.cat(inside).float().mean() > 0.95


def test_names_and_indices_are_those_of_the_items(fake):
    dataset = CUBDataset(fake[0], "val", image_size=16)
    assert dataset.names == ("31", "71")
    assert dataset.indices.tolist() == [dataset[item]["index"].item() for item in range(2)] == [3, 7]
