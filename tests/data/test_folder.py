import json
import logging
import pickle

import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from kpose.data import FolderDataModule, FolderDataset, read_folder
from kpose.geometry import apply_crop

SIZE = (40, 30)  # width, height
BOX = (10, 5, 26, 13)


def write_pair(root, name, *, suffix=".png", mask_suffix=".png", box=BOX, size=SIZE, mask_size=None):
    """Write a gray image with a colored box, and the box's mask."""
    photo = Image.new("RGB", size, (90, 90, 90))
    photo.paste((200, 40, 10), box)
    mask = Image.new("L", mask_size or size, 0)
    if box[2] > box[0]:
        mask.paste(255, box)
    for folder, picture, ending in (("images", photo, suffix), ("masks", mask, mask_suffix)):
        path = root / folder / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=95)


@pytest.fixture
def root(tmp_path):
    for name in ("b/one", "b/two", "a/three", "four.v2"):
        write_pair(tmp_path, name, suffix=".jpg" if name == "b/one" else ".png")
    return tmp_path


def test_items_are_crops_of_the_mask(root):
    dataset = FolderDataset(
        root, "train", image_size=16, padding=0.25, annotations=read_folder(root, val_share=0.0)
    )
    assert dataset.names == ("a/three", "b/one", "b/two", "four.v2")
    assert dataset.indices.tolist() == [0, 1, 2, 3]
    assert [path.name for path in dataset.image_files] == ["three.png", "one.jpg", "two.png", "four.v2.png"]
    for item, batch in enumerate(dataset):
        assert batch.keys() == {"image", "mask", "crop", "flipped", "index"}
        assert batch["index"] == item
        # The box of 16 × 8 pixels grows to a square of 24 about its center, (18, 9).
        assert torch.allclose(apply_crop(torch.tensor([[18.0, 9.0]]), batch["crop"]), torch.zeros(1, 2), atol=1e-6)
        rows, columns = batch["mask"].nonzero().unbind(-1)
        assert abs(rows.min() - 16 * 8 / 24) <= 1
        assert abs(columns.max() + 1 - 16 * 20 / 24) <= 1
        assert batch["image"][:, 8, 8].sub(torch.tensor([200, 40, 10]) / 255).abs().max() < 0.05


def test_split_by_chance_is_seeded_and_stable(tmp_path):
    for number in range(12):
        write_pair(tmp_path, f"{number:02}")
    first = read_folder(tmp_path, val_share=0.25)
    assert first.splits.count("val") == 3
    assert first.splits == read_folder(tmp_path, val_share=0.25).splits
    assert first.splits != read_folder(tmp_path, val_share=0.25, seed=1).splits
    assert set(read_folder(tmp_path, val_share=0.0).splits) == {"train"}
    write_pair(tmp_path, "00b")
    more = read_folder(tmp_path, val_share=0.25)
    before = {n for n, s in zip(first.names, first.splits, strict=True) if s == "val"}
    after = {n for n, s in zip(more.names, more.splits, strict=True) if s == "val"}
    assert len(before - after) <= 1
    with pytest.raises(ValueError, match=r"share of validation images in \[0, 1\)"):
        read_folder(tmp_path, val_share=1.0)


def test_splits_by_folder_and_by_file(tmp_path):
    for name in ("train/x", "train/sub/y", "val/x", "test/z", "spare/w"):
        write_pair(tmp_path, name)
    notes = read_folder(tmp_path)
    assert dict(zip(notes.names, notes.splits, strict=True)) == {
        "spare/w": "", "test/z": "test", "train/sub/y": "train", "train/x": "train", "val/x": "val",
    }  # fmt: skip
    assert FolderDataset(tmp_path, "val", annotations=notes).indices.tolist() == [4]
    (tmp_path / "splits.txt").write_text("train/x.png val\n\nspare/w\ttrain\n")
    assert read_folder(tmp_path).splits == ("train", "", "", "val", "")
    other = tmp_path / "other.txt"
    other.write_text("train/x test\n")
    assert read_folder(tmp_path, splits=other).splits == ("", "", "", "test", "")
    with pytest.raises(ValueError, match="split 'val'"):
        FolderDataset(tmp_path, "val", annotations=read_folder(tmp_path, splits=other))
    other.write_text("train/x tset\n")
    with pytest.raises(ValueError, match="line 1"):
        read_folder(tmp_path, splits=other)
    with pytest.raises(FileNotFoundError, match="read_folder, for its splits, needs"):
        read_folder(tmp_path, splits=tmp_path / "none.txt")


def spoil(root):
    """Add one image of each kind of fault."""
    write_pair(root, "no_mask")
    (root / "masks/no_mask.png").unlink()
    write_pair(root, "empty", box=(0, 0, 0, 0))
    write_pair(root, "small", mask_size=(20, 15))
    write_pair(root, "text")
    (root / "images/text.png").write_text("not a picture")
    write_pair(root, "bad_mask")
    (root / "masks/bad_mask.png").write_bytes((root / "masks/bad_mask.png").read_bytes()[:60])
    write_pair(root, "b/one", suffix=".png")  # beside one.jpg
    for name, ending in (("cut", ".png"), ("cut_photo", ".jpg")):  # the headers are sound
        write_pair(root, name, suffix=ending)
        path = root / f"images/{name}{ending}"
        path.write_bytes(path.read_bytes()[:-30])


FAULTS = {
    "images/bad_mask.png": "its mask cannot be read",
    "images/empty.png": "its mask is empty",
    "images/no_mask.png": "it has no mask",
    "images/small.png": "its mask is 20 × 15, the image 40 × 30 pixels",
    "images/text.png": "it cannot be read",
    "images/cut.png": "it cannot be read",
    "images/cut_photo.jpg": "it cannot be read (image file is truncated",
    "images/b/one.png": "it has the name of one.jpg",
}


def test_bad_images_are_listed_and_the_others_used(root, caplog):
    spoil(root)
    with caplog.at_level(logging.WARNING):
        notes = read_folder(root)
    assert len(notes.problems) == len(FAULTS)
    for path, fault in FAULTS.items():
        [line] = [line for line in notes.problems if line.startswith(f"{root / path}: ")]
        assert fault in line
        assert "\n" not in line
        assert line in caplog.messages
    assert caplog.messages[-1] == f"7 of 11 images of {root} left out."
    used = [name for name, split in zip(notes.names, notes.splits, strict=True) if split]
    assert used == ["a/three", "b/one", "b/two", "four.v2"]
    assert notes.boxes[list(notes.names).index("empty")].isnan().all()
    assert FolderDataset(root, "train", annotations=notes).problems == notes.problems


def test_a_bad_image_is_told_once_and_checked_once(root, caplog, monkeypatch):
    spoil(root)
    read_folder(root)
    caplog.clear()
    monkeypatch.setattr("kpose.data.folder_files.FolderEntry.check", lambda _: (None, "it was checked again"))
    assert len(read_folder(root).problems) == len(FAULTS)
    assert not caplog.messages
    write_pair(root, "b/two", size=(44, 30))
    assert f"{root}/images/b/two.png: it was checked again" in read_folder(root).problems


def test_nothing_usable_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="images"):
        read_folder(tmp_path)
    write_pair(tmp_path, "empty", box=(0, 0, 0, 0))
    with pytest.raises(ValueError, match=r"none can: .*empty\.png: its mask is empty\."):
        read_folder(tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("cache", [False, True])
def test_an_image_that_breaks_when_decoded_does_not_stop_a_run(root, caplog, workers, cache):
    notes = read_folder(root, val_share=0.0)
    path = root / "images/b/one.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    dataset = FolderDataset(root, "train", image_size=8, cache=cache, annotations=notes)
    for _ in range(2):
        seen = torch.cat([batch["index"] for batch in DataLoader(dataset, 2, num_workers=workers)])
        assert seen.tolist() == [0, 2, 2, 3]
    assert dataset.problems == (f"{path}: it cannot be decoded",)
    if not workers:
        assert len(caplog.messages) == 1
    assert pickle.loads(pickle.dumps(dataset))[3]["index"] == 3


def test_split_that_cannot_be_decoded_says_so(root):
    notes = read_folder(root, val_share=0.0)
    for path in (root / "images").rglob("*.*"):
        path.write_bytes(b"gone")
    with pytest.raises(ValueError, match="cannot decode any image"):
        FolderDataset(root, "train", annotations=notes)[2]


def test_phone_photos_are_turned_upright(tmp_path):
    write_pair(tmp_path, "phone", suffix=".jpg")
    upright = Image.open(tmp_path / "images/phone.jpg")
    exif = Image.Exif()
    exif[0x0112] = 8  # to be turned by a quarter, counter-clockwise
    upright.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "images/phone.jpg", exif=exif, quality=95)
    dataset = FolderDataset(tmp_path, "train", image_size=16, padding=0.0)
    inside = dataset[0]["image"].permute(1, 2, 0)[dataset[0]["mask"]]
    assert inside.sub(torch.tensor([200, 40, 10]) / 255).abs().mean() < 0.1


def test_check_is_stored(root, tmp_path, monkeypatch):
    store = tmp_path / "store"
    first = read_folder(root, store=store)
    monkeypatch.setattr("kpose.data.folder_files._checked", {})
    monkeypatch.setattr("kpose.data.folder_files.FolderEntry.check", lambda _: (None, "it was checked again"))
    again = read_folder(root, store=store)
    assert torch.equal(first.boxes, again.boxes)
    write_pair(root, "b/two", size=(44, 30))
    assert [line.split(": ")[1] for line in read_folder(root, store=store).problems] == ["it was checked again"]
    next(store.glob("*.json")).write_text("damaged")
    monkeypatch.setattr("kpose.data.folder_files._checked", {})
    with pytest.raises(ValueError, match="checked again"):
        read_folder(root, store=store)


def coco(root, names, **changes):
    square = [[10, 5, 26, 5, 26, 13, 10, 13]]
    content = {
        "images": [
            {"id": k, "file_name": f"{name}.png", "width": 40, "height": 30} for k, name in enumerate(names)
        ],
        "annotations": [{"id": 7 + k, "image_id": k, "segmentation": square} for k in range(len(names))],
    }
    path = root / f"{names[0]}.json"
    path.write_text(json.dumps({**content, **changes}))
    return path


def test_coco_gives_the_same_crops(tmp_path):
    for name in ("x", "y", "z"):
        write_pair(tmp_path, name)
    masked = FolderDataModule(tmp_path, image_size=16, val_share=0.4)
    drawn = FolderDataModule(tmp_path, annotations=coco(tmp_path, ["z", "x", "y"]), image_size=16, val_share=0.4)
    assert masked.dataset("val").names == drawn.dataset("val").names
    for one, other in zip(masked.dataset("train"), drawn.dataset("train"), strict=True):
        assert one["index"] == other["index"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["mask"], other["mask"])


def test_coco_file_for_each_split_and_bad_entries(tmp_path):
    for name in ("x", "y"):
        write_pair(tmp_path, name)
    size = [{"id": 0, "file_name": "y.png", "width": 41, "height": 30}]
    files = {"train": coco(tmp_path, ["x", "gone"]), "val": coco(tmp_path, ["y"])}
    notes = read_folder(tmp_path, files)
    assert dict(zip(notes.names, notes.splits, strict=True)) == {"x": "train", "y": "val"}
    assert notes.problems[0].startswith(f"{files['train']}: 1 object left out: there are no photos of these names")
    assert notes.problems[0].endswith("; the first is gone.png")
    coco(tmp_path, ["y"], images=size)
    assert "its mask is 41 × 30, the image 40 × 30 pixels" in read_folder(tmp_path, files).problems[1]
    with pytest.raises(ValueError, match=r"got \['dev'\]"):
        read_folder(tmp_path, {"dev": files["train"]})


def test_bad_entries_of_a_coco_file_are_listed_and_the_others_used(tmp_path):
    names = ["x", "y", "z"]
    for name in names:
        write_pair(tmp_path, name)
    path = coco(tmp_path, names)
    content = json.loads(path.read_text())
    del content["images"][1]["width"]
    content["annotations"][2]["image_id"] = 99
    path.write_text(json.dumps(content))
    notes = read_folder(tmp_path, path)
    assert notes.names == ("x",)
    assert notes.problems == (
        f"{path}: annotation 8 of image 1 is not in COCO's form (KeyError 'width')",
        f"{path}: annotation 9 of image 99 is left out: no image has that id",
        f"{path}: 1 image without annotation",
    )


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("side", [(40, 30), (40, 40)])
@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("form", ["coco", "mask"])
def test_objects_drawn_on_upright_and_on_stored_photos(tmp_path, caplog, orientation, side, upright, form):
    seen = side if orientation == 3 or not upright else side[::-1]  # width and height in the file
    photo = Image.new("RGB", seen, (90, 90, 90))
    photo.paste((200, 40, 10), BOX)
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    stored = photo.transpose(turn) if upright else photo
    stored.save(tmp_path / "images/x.png", exif=exif)
    if form == "coco":
        path = coco(tmp_path, ["x"], images=[{"id": 0, "file_name": "x.png", "width": seen[0], "height": seen[1]}])
    else:
        path, mask = None, Image.new("L", seen)
        mask.paste(255, BOX)
        (tmp_path / "masks").mkdir()
        mask.save(tmp_path / "masks/x.png")
    unclear = orientation == 3 or side[0] == side[1]
    option = None if upright or not unclear else False
    notes = read_folder(tmp_path, path, val_share=0.0, drawn_upright=option)
    item = FolderDataset(tmp_path, "train", image_size=16, padding=0.0, annotations=notes)[0]
    inside = item["image"].permute(1, 2, 0)[item["mask"]]
    assert inside.sub(torch.tensor([200, 40, 10]) / 255).abs().mean() < 0.1
    assert notes.problems == ()
    assert len(caplog.messages) == (unclear and upright)
    assert all("drawn_upright=False" in line for line in caplog.messages)


def test_nothing_usable_in_a_coco_file_says_why(tmp_path):
    write_pair(tmp_path, "x")
    boxes = [{"id": 7, "image_id": 0, "segmentation": [], "bbox": [10, 5, 16, 8]}]
    with pytest.raises(ValueError, match=r"none can: .*1 annotation left out: they have no segmentation"):
        read_folder(tmp_path, coco(tmp_path, ["x"], annotations=boxes))
    with pytest.raises(ValueError, match=r"none can: .*no photos of these names .* the first is gone\.png"):
        read_folder(tmp_path, coco(tmp_path, ["gone"]))


def test_three_splits_with_the_same_names_and_the_file_beside_its_photos(tmp_path):
    for folder in ("train", "valid", "test"):
        write_pair(tmp_path / folder, "x")
        (tmp_path / folder / "images/x.png").rename(tmp_path / folder / "x.png")
        coco(tmp_path / folder, ["x"]).rename(tmp_path / folder / "_annotations.coco.json")
    files = {"train": "train", "val": "valid", "test": "test"}
    files = {split: tmp_path / folder / "_annotations.coco.json" for split, folder in files.items()}
    notes = read_folder(tmp_path, files)
    assert notes.names == ("test/x", "train/x", "valid/x")
    assert notes.splits == ("test", "train", "val")
    assert notes.problems == ()
    # The only folder of a file does not decide on its split.
    for name in "yz":
        write_pair(tmp_path / "train", name)
        (tmp_path / "train/images" / f"{name}.png").rename(tmp_path / "train" / f"{name}.png")
    coco(tmp_path / "train", ["x", "y", "z"]).rename(files["train"])
    assert sorted(read_folder(tmp_path, files["train"], val_share=0.4).splits) == ["train", "train", "val"]


def test_data_module_batches(root):
    data = FolderDataModule(root, image_size=16, batch_size=2, val_share=0.25, color=0.1)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape[-1] > 16
    augmented = data.augment(batch, seed=0)
    assert augmented["image"].shape == (2, 3, 16, 16)
    assert augmented["mask"].shape == (2, 16, 16)
    assert torch.equal(augmented["image"], data.augment(batch, seed=0)["image"])
    assert next(iter(data.val_dataloader()))["image"].shape == (1, 3, 16, 16)


def test_fingerprint_changes_with_the_files(root):
    first = FolderDataModule(root).fingerprint
    assert FolderDataModule(root).fingerprint == first
    assert FolderDataModule(root, split_seed=1, val_share=0.5).fingerprint != first
    write_pair(root, "b/two", size=(44, 30))
    assert FolderDataModule(root).fingerprint != first
