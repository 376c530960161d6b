import csv
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from cli.conftest import call as call_command
from PIL import Image
from video.conftest import SIZE, Reddest, bird_box, draw_bird

from kpose.cli import main as kpose
from kpose.inference import Predictor
from kpose.structures import Domain
from kpose.video import OverlapTracker, VideoPredictor
from kpose.video.frames import read_video

Arrange = Callable[[Callable[[], object]], None]
BOX = ["--box", *map(str, bird_box(0))]


@pytest.fixture(autouse=True)
def finds_red(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is red be found; no drawing of a few pixels passes for a bird."""
    monkeypatch.setattr("kpose.inference.predictor.automatic_segmenter", lambda *_, **__: Reddest())


def call(checkpoint: Path, out: Path, *arguments: str | Path) -> int:
    return call_command("video", *arguments, "--checkpoint", checkpoint, "--out", out)


def test_a_video_gives_overlay_and_tracks(
    checkpoint: Path, predictor: Predictor, video_file: Callable[..., Path], tmp_path: Path
) -> None:
    path, out = video_file(), tmp_path / "out"
    kpose(["video", str(path), "--checkpoint", str(checkpoint), "--out", str(out), *BOX, "--meshes", "ply"])
    assert {file.name for file in out.iterdir()} == {
        "bird_overlay.mp4", "bird_cameras.csv", "bird_cameras.json", "bird_meshes",
    }  # fmt: skip
    sheets = list(read_video(out / "bird_overlay.mp4"))
    assert [sheet.time_s for sheet in sheets] == pytest.approx([k / 10 for k in range(12)], abs=1e-4)
    assert sheets[0].image.size == (2 * SIZE[0], SIZE[1])
    left = np.asarray(sheets[3].image).astype(int)[:, : SIZE[0]]
    right = np.asarray(sheets[3].image).astype(int)[:, SIZE[0] :]
    assert np.abs(left - np.asarray(draw_bird(3)).astype(int)).mean() < 12  # the video itself
    assert np.abs(left - right).max() > 60  # and the mesh beside it
    content = json.loads((out / "bird_cameras.json").read_text())
    rows = list(csv.DictReader((out / "bird_cameras.csv").read_text().splitlines()))
    assert content["video"] == str(path)
    assert [row["frame"] for row in rows] == [str(frame["frame"]) for frame in content["frames"]]
    video = VideoPredictor(predictor, OverlapTracker({1: bird_box(0)}, segmenter=Reddest()))
    for found, frame, row in zip(video(read_video(path)), content["frames"], rows, strict=True):
        [thing], [record] = found.objects, frame["objects"]
        assert thing.prediction is not None
        assert record["camera"]["scale"] == pytest.approx(thing.prediction.camera.scale.item())
        assert float(row["tx"]) == pytest.approx(thing.prediction.camera.translation[0].item())
        assert [float(row[key]) for key in ("left", "top", "right", "bottom")] == record["box"]
    meshes = sorted((out / "bird_meshes").glob("*.ply"))
    assert [mesh.name for mesh in meshes] == [f"{number:06}_1.ply" for number in range(12)]
    assert len(list((out / "bird_meshes").glob("*_1.ply.png"))) == 12
    expected = thing.prediction.mesh.vertices
    found_vertices = torch.from_numpy(trimesh.load(meshes[-1], process=False).vertices).float()
    # Those along the seam of the texture are there twice.
    assert torch.cdist(expected.double(), found_vertices.double()).amin(1).max() < 1e-5


def test_a_truncated_video_is_written_as_far_as_it_goes(
    checkpoint: Path, video_file: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = video_file(), tmp_path / "out"
    path.write_bytes(path.read_bytes()[: int(0.9 * path.stat().st_size)])  # the first picture is half of it
    assert call(checkpoint, out, path, *BOX) == 1
    frames = json.loads((out / "bird_cameras.json").read_text())["frames"]
    assert 0 < len(frames) < 12
    assert len(list(read_video(out / "bird_overlay.mp4"))) == len(frames)
    assert f"{len(frames)} of 12 frames could be read" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["empty", "missing", "text"])
def test_nothing_is_left_of_what_cannot_be_read(
    kind: str, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av", reason="PyAV is not installed")
    path, out = tmp_path / "bird.mp4", tmp_path / "out"
    if kind != "missing":
        path.write_text("" if kind == "empty" else "no video")
    assert call(checkpoint, out, path, *BOX) == 1
    assert not out.exists()
    [line] = capsys.readouterr().err.splitlines()
    assert "bird.mp4" in line


def write_folder(folder: Path, *, hidden: range = range(0)) -> Path:
    folder.mkdir()
    for number in range(6):
        draw_bird(number, hidden=number in hidden).save(folder / f"{number:05}.png")
    return folder


def test_masks_from_disk_and_hidden_objects(checkpoint: Path, tmp_path: Path) -> None:
    folder, masks = write_folder(tmp_path / "frames", hidden=range(2, 4)), tmp_path / "masks"
    masks.mkdir()
    for number in range(6):
        bird = np.asarray(draw_bird(number, hidden=number in range(2, 4))).astype(int)[..., 0] > 150
        Image.fromarray(bird.astype(np.uint8) * 255).save(masks / f"{number:05}.png")
    assert call(checkpoint, tmp_path / "out", folder, "--masks", masks, "--no-overlay", "--smooth", "0.1") == 0
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"frames_cameras.csv", "frames_cameras.json"}
    frames = json.loads((tmp_path / "out" / "frames_cameras.json").read_text())["frames"]
    assert [frame["objects"][0]["problem"] for frame in frames] == [None, None, "hidden", "hidden", None, None]
    assert frames[2]["objects"][0]["camera"] is None
    rows = list(csv.DictReader((tmp_path / "out" / "frames_cameras.csv").read_text().splitlines()))
    assert [row["scale"] == "" for row in rows] == [False, False, True, True, False, False]


def test_a_mask_of_the_first_frame_and_a_limit(checkpoint: Path, tmp_path: Path) -> None:
    folder, mask = write_folder(tmp_path / "frames"), tmp_path / "mask.png"
    bird = np.asarray(draw_bird(0)).astype(int)[..., 0] > 150
    Image.fromarray(bird.astype(np.uint8) * 255).save(mask)
    arguments = (folder, "--mask", mask, "--frames", "3", "--frame-rate", "10", "--no-overlay")
    assert call(checkpoint, tmp_path / "out", *arguments) == 0
    frames = json.loads((tmp_path / "out" / "frames_cameras.json").read_text())["frames"]
    assert [frame["time_s"] for frame in frames] == [0.0, 0.1, 0.2]


def test_without_a_box_what_is_found_is_followed(checkpoint: Path, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames")
    assert call(checkpoint, tmp_path / "out", folder, "--no-overlay", "--frames", "4") == 0
    frames = json.loads((tmp_path / "out" / "frames_cameras.json").read_text())["frames"]
    for number, frame in enumerate(frames):
        assert frame["objects"][0]["box"] == pytest.approx(bird_box(number), abs=6)


def test_classes_of_ones_own_are_loaded_where_they_are_trusted(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "heads_of_video.py").write_text("from kpose.heads import QuaternionHead as OwnHead\n")
    monkeypatch.syspath_prepend(tmp_path)
    contents = torch.load(checkpoint, weights_only=True)
    contents["recipe"]["head"] = {"factory": "heads_of_video.OwnHead"}
    torch.save(contents, tmp_path / "own.ckpt")
    arguments = (write_folder(tmp_path / "frames"), *BOX, "--no-overlay", "--frames", "1")
    assert call(tmp_path / "own.ckpt", tmp_path / "out", *arguments) == 1
    assert "--trust" in capsys.readouterr().err
    assert call(tmp_path / "own.ckpt", tmp_path / "out", *arguments, "--trust", "heads_of_video") == 0


def test_results_are_not_replaced_unless_asked(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = write_folder(tmp_path / "frames"), tmp_path / "out"
    out.mkdir()
    (out / "frames_cameras.csv").write_text("mine")
    assert call(checkpoint, out, folder, *BOX, "--no-overlay") == 1
    assert (out / "frames_cameras.csv").read_text() == "mine"
    assert "--overwrite" in capsys.readouterr().err
    assert call(checkpoint, out, folder, *BOX, "--no-overlay", "--overwrite") == 0
    assert (out / "frames_cameras.csv").read_text().startswith("frame,")


def test_meshes_of_an_earlier_run_go_when_they_are_replaced(checkpoint: Path, tmp_path: Path) -> None:
    folder, out = write_folder(tmp_path / "frames"), tmp_path / "out"
    arguments = (folder, *BOX, "--no-overlay", "--meshes", "glb", "--frames")
    assert call(checkpoint, out, *arguments, "3") == 0
    meshes = out / "frames_meshes"
    (meshes / "mine.glb").write_text("mine")
    assert sorted(path.name for path in meshes.glob("0*")) == [f"00000{k}_1.glb" for k in range(3)]
    assert call(checkpoint, out, *arguments, "1", "--overwrite") == 0
    assert sorted(path.name for path in meshes.iterdir()) == ["000000_1.glb", "mine.glb"]


@pytest.fixture
def at_the_fourth_frame(monkeypatch: pytest.MonkeyPatch) -> Arrange:
    """Let something happen before the fourth frame is reconstructed."""
    step = VideoPredictor.step

    def arrange(happen: Callable[[], object]) -> None:
        def stepped(self, state, frame):
            if frame.number == 3:
                happen()
            return step(self, state, frame)

        monkeypatch.setattr(VideoPredictor, "step", stepped)

    return arrange


def test_a_failure_in_the_middle_leaves_nothing(
    checkpoint: Path, tmp_path: Path, at_the_fourth_frame: Arrange
) -> None:
    def fail() -> None:
        raise RuntimeError("out of memory")

    at_the_fourth_frame(fail)
    folder, out = write_folder(tmp_path / "frames"), tmp_path / "out"
    assert call(checkpoint, out, folder, *BOX, "--no-overlay") == 1
    assert list(out.iterdir()) == []


def test_an_interrupted_video_says_so(
    checkpoint: Path,
    tmp_path: Path,
    at_the_fourth_frame: Arrange,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    at_the_fourth_frame(interrupt)
    folder, out = write_folder(tmp_path / "frames"), tmp_path / "out"
    assert call(checkpoint, out, folder, "--no-overlay") == 130
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("Interrupted; the results end there. 3 frames at")
    assert len(json.loads((out / "frames_cameras.json").read_text())["frames"]) == 3


def test_a_video_that_is_terminated_leaves_nothing(
    checkpoint: Path,
    tmp_path: Path,
    at_the_fourth_frame: Arrange,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_the_fourth_frame(lambda: os.kill(os.getpid(), signal.SIGTERM))
    folder, out = write_folder(tmp_path / "frames"), tmp_path / "out"
    monkeypatch.setattr(
        sys, "argv", ["kpose", "video", str(folder), "--checkpoint", str(checkpoint), "--out", str(out), *BOX]
    )
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            kpose()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.code == 143
    assert list(out.iterdir()) == []


def test_a_video_that_shows_nothing_says_so(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", SIZE, (90, 120, 90)).save(folder / f"{number}.png")
    assert call(checkpoint, tmp_path / "out", folder, "--no-overlay") == 0
    assert "No object was found" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [*BOX, "--masks", "m"],
        [*BOX, "--sam2", "a", "--lwl"],
        ["--lwl"],
        ["--masks", "m", "--sam2", "a"],
        [*BOX, "--largest", "0"],
        [*BOX, "--frames", "0"],
        ["--masks", "m", "--segmenter", "a"],
        [*BOX, "--label", "duck"],
    ],
)
def test_wrong_arguments(arguments: list[str], checkpoint: Path, tmp_path: Path) -> None:
    assert call(checkpoint, tmp_path / "out", tmp_path, *arguments) == 2
    assert not (tmp_path / "out").exists()


def test_adapters_say_what_is_missing(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "frames")
    assert call(checkpoint, tmp_path / "out", folder, *BOX, "--lwl") == 1
    assert "pytracking" in capsys.readouterr().err
    assert call(torch.__file__, tmp_path / "out", folder, *BOX) == 1  # type: ignore[arg-type]
    assert "checkpoint" in capsys.readouterr().err


def test_the_summary_counts_what_failed_and_says_what_was_learned(
    predictor: Predictor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = Predictor(deepcopy(predictor.network), image_size=32, segmenter=None)
    damaged.network.domain = Domain("rendered birds", "bird", "kpose's own birds")
    with torch.no_grad():
        for weight in damaged.network.head.parameters():
            weight.fill_(torch.nan)
    damaged.save_pretrained(tmp_path / "nan")
    folder = write_folder(tmp_path / "frames")
    assert call(tmp_path / "nan", tmp_path / "out", folder, *BOX, "--no-overlay", "--frames", "1") == 0
    *_, cause, last = capsys.readouterr().err.splitlines()
    assert "Check the checkpoint" in cause
    assert re.match(r"1 frame at \S+ a second, 0 predictions, 1 failed; the results are in ", last)
    assert last.endswith(". The network has learned from rendered birds (kpose's own birds, no labels).")


def test_the_summary_counts_what_is_not_valid(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = Predictor.__call__
    monkeypatch.setattr(
        Predictor,
        "__call__",
        lambda *given, **options: [replace(one, valid=False) for one in predict(*given, **options)],
    )
    folder = write_folder(tmp_path / "frames")
    assert call(checkpoint, tmp_path / "out", folder, *BOX, "--no-overlay", "--frames", "2") == 0
    assert "2 predictions, 2 of them not valid; the results" in capsys.readouterr().err


def test_what_was_looked_for_is_said(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(2):
        draw_bird(number).save(folder / f"{number}.png")
    assert call(checkpoint, tmp_path / "out", folder, "--no-overlay") == 0
    assert "Objects were found automatically; where they are wrong, give a --box" in capsys.readouterr().err
    assert call(checkpoint, tmp_path / "given", folder, *BOX, "--no-overlay") == 0
    assert "where they are wrong, follow them by --sam2" in capsys.readouterr().err
