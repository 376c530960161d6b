"""The sheet of ``kpose predict``, from Python and by the command."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from inference.conftest import call, picture
from PIL import Image

from kpose.geometry import apply_crop
from kpose.inference import Predictor, prediction_sheet
from kpose.inference.sheet import sheet_row
from kpose.structures import Mesh
from kpose.visualization import draw_keypoints, from_pillow

KEYPOINT_COLUMNS = ["photo", "keypoints", "overlay", "as seen", "from the right", "from above"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Make a folder of photos of different sizes, the second of which cannot be used."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(96, 72), (40, 120), (300, 8)]):
        picture(size, number).save(folder / f"{number}.png")
    (folder / "0b.png").write_text("no picture")
    return folder


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as sheet:
        return sheet.size


@pytest.mark.parametrize(("head", "columns"), [("keypoint", 6), ("quaternion", 5)])
def test_every_head_fills_a_row(head: str, columns: int, checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints[head])
    found = predictor([picture(), picture((20, 200), 1)], box=[(10, 5, 60, 60), None])
    row = sheet_row(found[0], 48)
    names = [name.removesuffix(" (not valid)") for name in row]
    assert names == [name for name in KEYPOINT_COLUMNS if columns == 6 or name != "keypoints"]
    assert all(max(drawn.shape) == 48 and drawn.min() >= 0 and drawn.max() <= 1 for drawn in row.values())
    sheet = prediction_sheet(found, ["robin", "wren"], size=48)
    assert sheet.shape == (3, 2 * (48 + 12 + 18), columns * (48 + 12))


def test_a_sheet_needs_photos_and_their_names(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="A sheet needs photos"):
        prediction_sheet([])
    found = Predictor.from_checkpoint(checkpoints["quaternion"])(picture())
    with pytest.raises(ValueError, match="A sheet needs photos"):
        prediction_sheet(found, ["robin", "wren"], size=16)
    other = Predictor.from_checkpoint(checkpoints["keypoint"])(picture())
    with pytest.raises(ValueError, match="A sheet needs photos"):
        prediction_sheet(found + other, size=16)


def test_the_photo_is_framed_where_the_network_saw_less(checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints["quaternion"], segmenter=None)
    black = Image.new("RGB", (64, 32))
    whole, part = predictor([black, black], box=[None, (20, 6, 40, 26)])
    assert sheet_row(whole, 64)["photo"].max() == 0
    framed = sheet_row(part, 64)["photo"]
    rows, columns = (framed[0] > 0.9).nonzero().unbind(-1)
    assert framed.shape == (3, 32, 64)
    left, top, right, bottom = (round(edge) for edge in part.square)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
    assert framed[:, 16, 30].max() == 0


def test_keypoints_lie_where_the_crop_has_them(checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints["keypoint"])
    [found] = predictor(Image.new("RGB", (96, 72), "white"), box=(10, 5, 60, 60))
    assert found.keypoints is not None
    assert found.confidence is not None
    drawn = sheet_row(replace(found, inliers=None), 200)["keypoints"]
    surest = found.confidence.argmax()[None]
    point = (apply_crop(found.keypoints[surest], found.crop) + 1) * 100
    dot = draw_keypoints(torch.zeros(3, 200, 200), point, found.confidence[surest])
    inside = dot.amax(0) > 0.1
    torch.testing.assert_close(drawn[:, inside].mean(1), dot[:, inside].mean(1), atol=0.03, rtol=0)


def test_a_texture_of_its_own_is_shown(checkpoints: dict[str, Path]) -> None:
    [found] = Predictor.from_checkpoint(checkpoints["quaternion"])(Image.new("RGB", (64, 64), "blue"))
    blue = sheet_row(found, 32)["as seen"]
    template = Predictor.from_checkpoint(checkpoints["quaternion"]).network.template
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 8, 16)
    mesh = Mesh(template.vertices, template.faces, template.uv, template.uv_faces, red)
    own = sheet_row(replace(found, mesh=mesh), 32)["as seen"]
    for view, channel in ((blue, 2), (own, 0)):
        inside = view.amin(0) < 0.1
        assert inside.sum() > 50
        assert view[channel][inside].mean() > 0.4
        assert view[2 - channel][inside].mean() < 0.2


def test_the_sheet_shows_the_first_photos_that_can_be_used(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(checkpoints["keypoint"], out, photos, "--sheet", "2") == 1
    assert "0b.png" in capsys.readouterr().err
    width, height = size_of(out / "sheet.png")
    assert (width, height) == (6 * 172, 2 * 190)
    assert call(checkpoints["keypoint"], out, photos, "--sheet") == 1  # eight, of which there are three
    assert size_of(out / "sheet.png") == (6 * 172, 3 * 190)
    assert "sheet.png" in capsys.readouterr().err
    assert not list(out.glob("*.tmp"))


def test_results_that_are_done_are_left_alone(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (photos / "0b.png").unlink()
    assert call(checkpoints["quaternion"], out, photos, "--sheet", "2") == 0
    first = (out / "sheet.png").read_bytes()
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.suffix in (".glb", ".json")}
    (out / "sheet.png").unlink()
    assert call(checkpoints["quaternion"], out, photos, "--sheet", "2") == 0
    assert "3 of 3 photos, 3 of them before" in capsys.readouterr().err
    assert (out / "sheet.png").read_bytes() == first
    assert before == {name: (out / name).stat().st_mtime_ns for name in before}


def test_only_a_sheet_of_kpose_is_replaced(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    picture().save(out / "sheet.png")
    mine = (out / "sheet.png").read_bytes()
    assert call(checkpoints["quaternion"], out, photos / "0.png", "--sheet") == 1
    assert "sheet.png exists" in capsys.readouterr().err
    assert (out / "sheet.png").read_bytes() == mine
    assert not (out / "0.json").exists()
    assert call(checkpoints["quaternion"], out, photos / "0.png", out / "sheet.png", "--sheet", "--overwrite") == 1
    assert "would replace an input" in capsys.readouterr().err
    assert (out / "sheet.png").read_bytes() == mine
    assert call(checkpoints["quaternion"], out, photos / "0.png", "--sheet", "--overwrite") == 0
    # Among photos, what kpose has drawn is none.
    assert call(checkpoints["quaternion"], out, out, "--sheet") == 1
    assert "has none" in capsys.readouterr().err
    assert json.loads((out / "0.json").read_text())["photo"] == str(photos / "0.png")


@pytest.mark.parametrize("count", ["0", "-1", "65", "two"])
def test_a_wrong_number_of_rows_is_refused(
    count: str, checkpoints: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as caught:
        call(checkpoints["quaternion"], tmp_path / "out", photos, "--sheet", count)
    assert caught.value.code == 2
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_of_a_sheet_that_cannot_be_written(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kpose.inference.sheet_file.write_picture", full)
    assert call(checkpoints["quaternion"], tmp_path / "out", photos / "0.png", "--sheet") == 1
    assert not (tmp_path / "out" / "sheet.png").exists()
    assert (tmp_path / "out" / "0.json").exists()


def test_colours_of_the_file_are_those_of_the_sheet(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    assert call(checkpoints["quaternion"], tmp_path, photos / "0.png", "--whole-frame", "--sheet") == 0
    found = Predictor.from_checkpoint(checkpoints["quaternion"], segmenter=None)(photos / "0.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        written = from_pillow(sheet)
    torch.testing.assert_close(written, prediction_sheet(found, ["0"]), atol=0.011, rtol=0)
    assert written[:, 0, 0].eq(1).all()
