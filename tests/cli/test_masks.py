"""Masks of photos, as training from a folder reads them."""

from pathlib import Path

import numpy as np
import pytest
from cli.conftest import call, picture
from inference.segmentation.conftest import bird_scene, scene, semantic
from PIL import Image

from kpose.cli import masks
from kpose.data import read_folder
from kpose.geometry import mask_iou
from kpose.inference import load
from kpose.visualization import from_pillow, to_pillow

__all__ = ["semantic"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Save pictures of birds, one in a folder of its own, and what holds none."""
    folder = tmp_path / "images"
    (folder / "wild").mkdir(parents=True)
    to_pillow(bird_scene(place=(60, 45))).save(folder / "robin.png")
    to_pillow(bird_scene(place=(50, 40))).save(folder / "wild" / "wren.webp", lossless=True)
    Image.new("RGB", (96, 72), "green").save(folder / "soil.png")
    (folder / "broken.jpg").write_bytes(b"nothing")
    return folder


def make(images: Path, *arguments: str | Path) -> int:
    """Call the command, with masks beside the images."""
    return call("masks", images, "--out", images.parent / "masks", *arguments)


def test_training_reads_what_the_command_writes(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(images) == 1
    folder = images.parent / "masks"
    assert {path.relative_to(folder) for path in folder.rglob("*.*")} == {Path("robin.png"), Path("wild/wren.png")}
    found = read_folder(images.parent)
    names = [name for name, split in zip(found.names, found.splits, strict=True) if split]
    assert names == ["robin", "wild/wren"]
    broken, nothing, summary = capsys.readouterr().err.strip().splitlines()
    assert "broken.jpg is no photo that can be read" in broken
    assert nothing == f"{images / 'soil.png'}: no bird is found in it"
    assert summary == f"Masks of 2 of 4 photos, 1 without an object, 1 that cannot be used; see {folder}."


def test_a_mask_is_black_and_white_and_lies_on_the_object(images: Path) -> None:
    make(images)
    with Image.open(images.parent / "masks" / "robin.png") as mask:
        assert mask.mode == "L"
        assert np.unique(np.asarray(mask)).tolist() == [0, 255]
        drawn = from_pillow(mask.convert("RGB"))[0]
    [found] = load("bird").segmenter.segment(bird_scene(place=(60, 45)))  # type: ignore[union-attr]
    assert float(mask_iou(drawn, (found.mask > 0.5).float())) > 0.99


def test_masks_that_are_there_are_kept(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "broken.jpg").unlink()
    drawn = images.parent / "masks" / "robin.png"
    drawn.parent.mkdir()
    Image.new("L", (120, 90), 255).save(drawn)
    Image.new("L", (96, 72), 255).save(drawn.with_name("soil.png"))
    before = drawn.read_bytes()
    assert make(images) == 0
    assert drawn.read_bytes() == before
    assert "Masks of 3 of 3 photos, 2 of them before; see" in capsys.readouterr().err
    assert make(images, "--overwrite") == 0
    assert drawn.read_bytes() != before
    assert not drawn.with_name("soil.png").exists()
    assert "Masks of 2 of 3 photos, 1 without an object; see" in capsys.readouterr().err


def test_nothing_is_loaded_where_all_masks_are_there(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = images.parent / "masks"
    folder.mkdir()
    Image.new("L", (120, 90), 255).save(folder / "robin.png")
    monkeypatch.setattr(masks.Finder, "load_segmenter", None)
    assert call("masks", images / "robin.png", "--out", folder) == 0


def test_an_interruption_keeps_what_is_done(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        if "soil" in line:
            raise KeyboardInterrupt
        said.append(line)

    monkeypatch.setattr(masks, "AT_ONCE", 1)
    monkeypatch.setattr(masks, "report", say)
    assert make(images) == 130
    [summary] = said
    assert "Interrupted; the same call goes on from here. Masks of 1 of 4 photos" in summary
    monkeypatch.undo()
    assert make(images) == 1
    assert "Masks of 2 of 4 photos, 1 of them before" in capsys.readouterr().err


def test_other_categories_take_a_model_and_a_label(
    semantic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to_pillow(scene()).save(tmp_path / "thing.png")
    model = ("--segmenter", semantic, "--label", "tree")
    assert call("masks", tmp_path / "thing.png", "--out", tmp_path / "out", *model) == 0
    said = capsys.readouterr().err
    assert (tmp_path / "out" / "thing.png").exists() or "no tree is found in it" in said
    assert call("masks", tmp_path / "thing.png", "--out", tmp_path / "out", "--label", "tree") == 2
    assert "give both" in capsys.readouterr().err


def test_a_mask_lies_on_the_upright_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = to_pillow(bird_scene(place=(100, 120), size=(260, 200)))
    (tmp_path / "images").mkdir()
    upright.rotate(90, expand=True).save(tmp_path / "images" / "bird.png", exif=exif)
    assert make(tmp_path / "images") == 0
    [box] = read_folder(tmp_path).boxes.tolist()
    [found] = load("bird").segmenter.segment(from_pillow(upright))  # type: ignore[union-attr]
    assert box == pytest.approx(found.box, abs=1.5)


def test_large_photos_have_masks_of_their_size(tmp_path: Path) -> None:
    to_pillow(bird_scene(place=(60, 45))).resize((1800, 1350)).save(tmp_path / "large.jpg")
    assert call("masks", tmp_path / "large.jpg", "--out", tmp_path / "out") == 0
    with Image.open(tmp_path / "out" / "large.png") as mask:
        assert mask.size == (1800, 1350)


def test_photos_are_never_taken_for_masks(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in images.rglob("*.*")}
    for photo in (images, images / "robin.png"):
        assert call("masks", photo, "--out", images, "--overwrite") == 2
        assert "--out needs a folder without photos" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in images.rglob("*.*")} == before
    # Masks in the folder of the photos are no photos for the next call.
    for _ in range(2):
        assert call("masks", images, "--out", images / "masks") == 1
        assert "of 4 photos" in capsys.readouterr().err


def test_photos_of_one_name_need_others(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture().save(images / "robin.tif")
    (images / "broken.jpg").unlink()
    assert make(images) == 1
    line = next(line for line in capsys.readouterr().err.splitlines() if "robin.tif" in line)
    assert f"it has the name of {images / 'robin.png'}" in line


def test_folders_and_files_that_cannot_be_used_are_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none").mkdir()
    assert call("masks", tmp_path / "none", "--out", tmp_path / "out") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert call("masks", tmp_path / "nowhere.jpg", "--out", tmp_path / "out") == 1
    missing, summary = capsys.readouterr().err.splitlines()
    assert "nowhere.jpg" in missing
    assert summary.startswith("Masks of 0 of 1 photo, 1 that cannot be used")
    assert not (tmp_path / "out").exists()
