import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from cli.conftest import call as call_command
from cli.conftest import picture
from cli.conftest import predict as call
from inference.segmentation.conftest import bird_scene
from PIL import Image

import kpose
from kpose.geometry import quaternion_to_matrix
from kpose.inference import Predictor, prediction_sheet
from kpose.structures import Domain
from kpose.visualization import from_pillow, to_pillow


def find(checkpoint: Path, out: Path, *arguments: str | Path) -> int:
    """Call ``kpose predict``, which looks for the objects."""
    return call_command("predict", *arguments, "--checkpoint", checkpoint, "--out", out)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "robin.png"
    picture().save(path)
    return path


@pytest.mark.parametrize("head", ["keypoint", "quaternion"])
def test_json_holds_what_the_predictor_gives(
    head: str, checkpoints: dict[str, Path], photo: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert call(checkpoints[head], out, photo, "--box", "10", "5", "60", "60") == 0
    found = json.loads((out / "robin.json").read_text())
    [expected] = Predictor.from_checkpoint(checkpoints[head])(photo, box=(10, 5, 60, 60))
    assert found["kpose"] == kpose.__version__
    assert found["photo"] == str(photo)
    assert found["size"] == {"height": 72, "width": 96}
    assert found["box"] == [10, 5, 60, 60]
    assert found["square"] == list(expected.square)
    for name, camera in (("pixels", expected.camera), ("crop", expected.crop_camera)):
        record = found["camera"][name]
        assert record["scale"] == pytest.approx(camera.scale.item())
        torch.testing.assert_close(torch.tensor(record["translation"]), camera.translation)
        torch.testing.assert_close(torch.tensor(record["rotation"]), camera.rotation)
        torch.testing.assert_close(quaternion_to_matrix(torch.tensor(record["quaternion"])), camera.rotation)
    if expected.keypoints is None or expected.confidence is None or expected.inliers is None:
        assert found["keypoints"] is found["confidence"] is found["inliers"] is None
    else:
        torch.testing.assert_close(torch.tensor(found["keypoints"]), expected.keypoints)
        torch.testing.assert_close(torch.tensor(found["confidence"]), expected.confidence)
        assert found["inliers"] == expected.inliers.tolist()


def test_the_overlay_is_a_small_upright_picture(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture((1200, 900)).save(tmp_path / "photo.jpg", exif=exif)
    assert call(checkpoints["keypoint"], tmp_path, tmp_path / "photo.jpg") == 0
    with Image.open(tmp_path / "photo_overlay.png") as overlay:
        assert overlay.size == (600, 800)
    assert json.loads((tmp_path / "photo.json").read_text())["size"] == {"height": 1200, "width": 900}


def test_a_mask_file_gives_its_box(checkpoints: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((72, 96), dtype=np.uint8)
    mask[10:40, 20:70] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert call(checkpoints["keypoint"], tmp_path / "out", photo, "--mask", tmp_path / "mask.png") == 0
    assert json.loads((tmp_path / "out" / "robin.json").read_text())["box"] == [20, 10, 70, 40]


def test_a_texture_has_the_size_that_is_asked_for(
    checkpoints: dict[str, Path], photo: Path, tmp_path: Path
) -> None:
    assert call(checkpoints["keypoint"], tmp_path, photo, "--texture-size", "40") == 0
    mesh = trimesh.load_mesh(tmp_path / "robin.glb")
    assert mesh.visual.material.baseColorTexture.size == (42, 22)  # with the border that closes it


def test_the_whole_frame_is_named(
    checkpoints: dict[str, Path], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(checkpoints["keypoint"], tmp_path / "out", photo, "--whole-frame") == 0
    said = capsys.readouterr().err
    assert "The whole frame of 1 photo was taken." in said
    assert "Predicted 1 of 1 photo; see" in said
    assert json.loads((tmp_path / "out" / "robin.json").read_text())["box"] is None
    Image.new("RGB", (96, 72), "green").save(tmp_path / "nothing.png")
    assert find(checkpoints["keypoint"], tmp_path / "out", tmp_path / "nothing.png") == 0
    assert "The whole frame of 1 photo was taken." in capsys.readouterr().err


def test_the_bird_is_found(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to_pillow(bird_scene(place=(60, 45))).save(tmp_path / "robin.png")
    assert find(checkpoints["keypoint"], tmp_path / "out", tmp_path / "robin.png") == 0
    found = json.loads((tmp_path / "out" / "robin.json").read_text())
    assert found["located_by"] == "MaskSegmenter"
    assert found["box"] == pytest.approx([41, 36, 98, 57], abs=4)
    assert call(checkpoints["keypoint"], tmp_path / "out", tmp_path / "robin.png", "--whole-frame") == 0
    assert json.loads((tmp_path / "out" / "robin.json").read_text())["located_by"] == "frame"
    capsys.readouterr()
    assert find(checkpoints["keypoint"], tmp_path / "out", tmp_path / "robin.png", "--segmenter", tmp_path) == 1
    [line] = capsys.readouterr().err.strip().splitlines()
    assert str(tmp_path) in line


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_what_is_no_file_in_a_folder_is_one_line_each(
    checkpoints: dict[str, Path], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    photo.rename(folder / photo.name)
    os.mkfifo(folder / "pipe.jpg")
    (folder / "circle.jpg").symlink_to(folder / "circle.jpg")
    (folder / "nowhere.jpg").symlink_to(folder / "missing.jpg")
    assert call(checkpoints["quaternion"], out, folder) == 1
    circle, nowhere, pipe, *_, last = capsys.readouterr().err.strip().splitlines()
    assert re.search(r"circle\.jpg is no photo that can be read", circle)
    assert re.search(r"No such file or directory: .*nowhere\.jpg", nowhere)
    assert re.search(r"pipe\.jpg is a folder, a pipe", pipe)
    assert "Predicted 1 of 4 photos" in last


def test_a_folder_may_hold_what_is_too_large_and_another_nothing(
    checkpoints: dict[str, Path], photo: Path, huge_png: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, empty = tmp_path / "photos", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    photo.rename(folder / photo.name)
    (folder / "huge.png").write_bytes(huge_png)
    assert call(checkpoints["quaternion"], tmp_path / "out", empty, folder) == 1
    nothing, huge, *_, last = capsys.readouterr().err.strip().splitlines()
    assert re.search("empty has none", nothing)
    assert re.search("huge.png", huge)
    assert "Predicted 1 of 2 photos" in last
    assert call(checkpoints["quaternion"], tmp_path / "nowhere", empty) == 1
    assert not (tmp_path / "nowhere").exists()


def test_every_kind_of_file_in_one_call(
    checkpoints: dict[str, Path], huge_png: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257)
    good = {
        "plain.jpg": picture(), "gray.png": picture().convert("L"), "gray_alpha.png": picture().convert("LA"),
        "palette.png": picture().quantize(16), "cmyk.jpg": picture().convert("CMYK"), "deep.png": deep,
        "film.gif": picture(), "rotated.jpg": picture(), "thin.png": picture((1200, 8)),
    }  # fmt: skip
    for name, image in good.items():
        image.save(tmp_path / name, **({"exif": exif} if name == "rotated.jpg" else {}))
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "short.jpg").write_bytes((tmp_path / "plain.jpg").read_bytes()[:900])
    picture((1, 1)).save(tmp_path / "tiny.png")
    (tmp_path / "huge.png").write_bytes(huge_png)
    bad = ["empty.jpg", "text.jpg", "short.jpg", "tiny.png", "huge.png", "missing.jpg"]
    names = [name for pair in zip(good, [*bad, *bad], strict=False) for name in dict.fromkeys(pair)]
    photos = [tmp_path / name for name in dict.fromkeys([*names, *bad])]
    assert call(checkpoints["keypoint"], tmp_path / "out", *photos) == 1
    lines = capsys.readouterr().err.splitlines()
    for name in bad:
        assert sum(name in line for line in lines) == 1, name
    assert f"Predicted {len(good)} of {len(good) + len(bad)} photos" in lines[-1]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    ends = (".json", ".glb", "_overlay.png")
    assert written == {"index.html", "viewer", *(f"{Path(name).stem}{end}" for name in good for end in ends)}
    page = (tmp_path / "out" / "index.html").read_text()
    assert all(name in page.partition("Could not be used")[2] for name in bad)
    size = json.loads((tmp_path / "out" / "rotated.json").read_text())["size"]
    assert size == {"height": 96, "width": 72}


def test_a_folder_of_photos(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    (photos / "deeper").mkdir(parents=True)
    for number, name in enumerate(["b.jpg", "a.PNG", ".hidden.png", "deeper/c.png"]):
        picture(seed=number).save(photos / name)
    (photos / "notes.txt").write_text("no photo")
    assert call(checkpoints["quaternion"], photos, photos) == 0
    assert {path.stem for path in photos.glob("*.glb")} == {"a", "b"}
    # The overlays lie among the photos now, and are none.
    assert call(checkpoints["quaternion"], photos, photos) == 0
    assert "2 of 2 photos, 2 of them before" in capsys.readouterr().err
    assert call(checkpoints["quaternion"], tmp_path / "out", photos / "viewer") == 1
    assert "has none" in capsys.readouterr().err


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir() if path.stem.startswith("robin")}


def test_what_is_done_is_not_done_again(
    checkpoints: dict[str, Path], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert call(checkpoints["keypoint"], out, photo) == 0
    first = stamps(out)
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "from_checkpoint", lambda *_, **__: pytest.fail("the checkpoint was loaded"))
        assert call(checkpoints["keypoint"], out, photo) == 0
    assert stamps(out) == first
    for checkpoint, arguments in (("keypoint", ["--box", "10", "5", "60", "60"]), ("quaternion", ["--overwrite"])):
        assert call(checkpoints[checkpoint], out, photo, *arguments) == 0
        again = stamps(out)
        assert again.keys() == first.keys()
        assert all(again[name] != first[name] for name in first)
        first = again


def test_files_of_others_are_not_replaced_unless_asked(
    checkpoints: dict[str, Path], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for name in ("robin.json", "index.html"):
        (out / name).write_text("mine")
        assert call(checkpoints["quaternion"], out, photo) == 1
        assert f"{name} exists" in capsys.readouterr().err
        assert (out / name).read_text() == "mine"
        assert not (out / "robin_overlay.png").exists()
    assert call(checkpoints["quaternion"], out, photo, "--overwrite", "--turntable") == 0
    assert (out / "robin_turntable.gif").exists()
    assert json.loads((out / "robin.json").read_text())["kpose"]


def test_an_input_is_never_replaced(checkpoints: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "robin_overlay.png"
    picture(seed=1).save(other)
    before = other.read_bytes()
    assert call(checkpoints["quaternion"], tmp_path, photo, other, "--overwrite") == 1
    assert other.read_bytes() == before
    assert (tmp_path / "robin_overlay_overlay.png").exists()


def test_an_interruption_leaves_a_page_and_is_taken_up(
    checkpoints: dict[str, Path],
    photo: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kpose.cli.results.PhotoResult.write", interrupt)
        assert call(checkpoints["quaternion"], tmp_path / "out", photo) == 130
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("Interrupted; the same call goes on from here. Predicted 0 of 1 photo; see ")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.html"}
    assert call(checkpoints["quaternion"], tmp_path / "out", photo) == 0


def test_nothing_temporary_is_left(
    checkpoints: dict[str, Path], photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert call(checkpoints["keypoint"], tmp_path / "out", photo) == 1
    assert not list((tmp_path / "out").rglob("*"))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["{photo}", "{photo}", "--box", "0", "0", "9", "9"],
        ["{photo}", "{photo}", "--mask", "{photo}"],
        ["{photo}", "--box", "0", "0", "9", "9", "--mask", "{photo}"],
        ["{photo}", "--box", "0", "0", "9"],
        ["{photo}", "--box", "0", "0", "9", "nine"],
        ["{photo}", "--box", "0", "0", "9", "9", "--whole-frame"],
        ["{photo}", "--whole-frame", "--segmenter", "model"],
        ["{photo}", "--label", "owl"],
        ["{photo}", "--device", "gpu"],
        ["{photo}", "--device", "meta:x"],
        ["{photo}", "--image-size", "0"],
        ["{photo}", "--image-size", "100000"],
        ["{photo}", "--texture-size", "100000"],
        ["{photo}", "--sheet", "0"],
        ["{photo}", "--sheet", "65"],
        ["{photo}", "--sheet=two"],
    ],
)
def test_wrong_arguments_are_one_line(
    arguments: list[str],
    checkpoints: dict[str, Path],
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [text.format(photo=photo) for text in arguments]
    assert find(checkpoints["keypoint"], tmp_path / "out", *given) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("kpose predict: ")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_cannot_be_used_is_one_line(
    photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(photo, photo, photo) == 2
    assert "--out needs a folder" in capsys.readouterr().err
    for checkpoint in (photo, tmp_path / "missing.ckpt", tmp_path):
        assert call(checkpoint, tmp_path / "out", photo) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("kpose predict: ")
    assert not (tmp_path / "out").exists()


def test_a_pose_that_is_not_finite_is_refused(checkpoints: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    contents = torch.load(checkpoints["quaternion"], weights_only=True)
    weights = {
        name: torch.full_like(value, torch.nan) if value.is_floating_point() else value
        for name, value in contents["state_dict"].items()
    }
    torch.save({**contents, "state_dict": weights}, tmp_path / "nan.ckpt")
    assert call(tmp_path / "nan.ckpt", tmp_path / "out", photo) == 1
    assert not list((tmp_path / "out").glob("robin*"))


@pytest.mark.parametrize("box", [["60", "5", "10", "60"], ["500", "500", "600", "600"], ["0", "0", "nan", "9"]])
def test_a_bad_box_is_one_line(
    box: list[str], checkpoints: dict[str, Path], photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(checkpoints["keypoint"], tmp_path / "out", photo, "--box", *box) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "A box needs" in lines[0]


def test_a_saved_folder_is_a_checkpoint(checkpoints: dict[str, Path], photo: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "saved", tmp_path / "out"
    Predictor.from_checkpoint(checkpoints["quaternion"]).save_pretrained(folder)
    assert call(folder, out, photo) == 0
    before = stamps(out)
    assert call(folder, out, photo) == 0
    assert stamps(out) == before
    assert call(checkpoints["quaternion"], tmp_path / "other", photo) == 0
    cameras = [json.loads((place / "robin.json").read_text())["camera"] for place in (out, tmp_path / "other")]
    assert cameras[0] == cameras[1]


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


def test_a_sheet_swallows_no_photo_and_the_page_links_what_there_is(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert call(checkpoints["quaternion"], out, "--sheet", photos / "0.png") == 0
    page = (out / "index.html").read_text()
    assert 'href="sheet.png"' in page
    assert "turntable" not in page
    assert "1 photo. Choose" in page
    assert call(checkpoints["quaternion"], tmp_path / "two", "--sheet", "1", photos / "0.png", "--turntable") == 0
    assert 'href="0_turntable.gif"' in (tmp_path / "two" / "index.html").read_text()
    assert call(checkpoints["quaternion"], tmp_path / "three", photos / "0.png") == 0
    assert "sheet.png" not in (tmp_path / "three" / "index.html").read_text()


def test_the_summary_counts_what_is_not_valid_and_says_what_was_learned(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = Predictor.from_checkpoint(checkpoints["keypoint"])
    predictor.network.domain = Domain("rendered birds", "bird", "kpose's own birds", "no pose labels")
    with torch.no_grad():
        for weight in predictor.network.head.parameters():
            weight.fill_(torch.nan)
    predictor.save_pretrained(tmp_path / "nan")
    (photos / "0b.png").unlink()
    assert call(tmp_path / "nan", tmp_path / "out", photos) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("Predicted 3 of 3 photos, 3 of them not valid; see ")
    assert last.endswith(". The network has learned from rendered birds (kpose's own birds, no pose labels).")
    assert call(tmp_path / "nan", tmp_path / "out", photos) == 0
    assert "3 of 3 photos, 3 of them before, 3 of them not valid; see" in capsys.readouterr().err


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


def test_nothing_is_left_of_a_sheet_that_cannot_be_written(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("kpose.cli.predict.write_marked_picture", full)
    assert call(checkpoints["quaternion"], tmp_path / "out", photos / "0.png", "--sheet") == 1
    assert not (tmp_path / "out" / "sheet.png").exists()
    assert (tmp_path / "out" / "0.json").exists()
    assert (tmp_path / "out" / "index.html").exists()


def test_colors_of_the_file_are_those_of_the_sheet(
    checkpoints: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    assert call(checkpoints["quaternion"], tmp_path, photos / "0.png", "--whole-frame", "--sheet") == 0
    found = Predictor.from_checkpoint(checkpoints["quaternion"], segmenter=None)(photos / "0.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        written = from_pillow(sheet)
    torch.testing.assert_close(written, prediction_sheet(found, ["0"]), atol=0.011, rtol=0)
    assert written[:, 0, 0].eq(1).all()


def test_what_may_not_be_read_is_one_line_and_the_others_go_on(
    checkpoints: dict[str, Path],
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in for file modes, which do not bind the superuser."""
    closed, folder = tmp_path / "closed.png", tmp_path / "folder"
    picture(seed=1).save(closed)
    folder.mkdir()
    opened, listed = io.open, Path.iterdir

    def refuse(path: object, *args: object, **options: object) -> object:
        if str(path) == str(closed):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)

    def refuse_folder(path: Path) -> object:
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(io, "open", refuse)
    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse_folder)
    assert call(checkpoints["quaternion"], tmp_path / "out", closed, folder, photo) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "Permission denied" in line] == [
        f"[Errno 13] Permission denied: '{folder}'. Change who may use it, or name another.",
        f"[Errno 13] Permission denied: '{closed}'. Change who may use it, or name another.",
    ]
    assert "Predicted 1 of 2 photos" in lines[-1]
    page = (tmp_path / "out" / "index.html").read_text()
    assert "closed.png" in page.partition("Could not be used")[2]


def test_one_line_counts_what_a_folder_holds_beside_photos(
    checkpoints: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.jp2", "b.gif", "c.ppm", "d.png"):
        picture().save(tmp_path / name)
    for name in ("e.heif-sequence", "f.cr2", "g.CR2", ".DS_Store"):
        (tmp_path / name).write_bytes(b"raw")
    for _ in range(2):  # the second time among its own results
        assert call(checkpoints["quaternion"], tmp_path, tmp_path) == 0
        lines = capsys.readouterr().err.splitlines()
        assert [line.partition(" here: ")[2] for line in lines if "passed over" in line] == [
            "2 .cr2, 1 .heif-sequence."
        ]
        assert "Predicted 4 of 4 photos" in lines[-1]
