import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from kpose.geometry import quaternion_to_matrix
from kpose.inference import Prediction
from kpose.video import Frame, FramePredictions, ObjectPrediction, Track
from kpose.video._track_files import COLUMNS, track_files

HIDDEN = ObjectPrediction(Track(2), None, "hidden")


def frames(prediction: Prediction) -> list[FramePredictions]:
    """Return a frame with a bird and a hidden one, and a frame without anything."""
    seen = ObjectPrediction(Track(1, (4.0, 5.0, 40.0, 44.0)), prediction)
    picture = Image.new("RGB", (48, 48))
    found = [(3, 0.12, (seen, HIDDEN)), (4, 0.16, ())]
    return [FramePredictions(Frame(number, time, picture), objects) for number, time, objects in found]


def test_both_files_hold_the_same_cameras(small_prediction: Prediction, tmp_path: Path) -> None:
    table, record = tmp_path / "cameras.csv", tmp_path / "cameras.json"
    with track_files(table, record, "bird.mp4") as add:
        for found in frames(small_prediction):
            add(found)
    content = json.loads(record.read_text())
    assert content["video"] == "bird.mp4"
    assert [(frame["frame"], frame["time_s"], len(frame["objects"])) for frame in content["frames"]] == [
        (3, 0.12, 2),
        (4, 0.16, 0),
    ]
    seen, hidden = content["frames"][0]["objects"]
    rotation = quaternion_to_matrix(torch.tensor(seen["camera"]["quaternion"]))
    torch.testing.assert_close(rotation, small_prediction.camera.rotation)
    nothing = dict.fromkeys(("valid", "score", "expected_error_deg", "box", "camera"))
    assert hidden == {"object": 2, "problem": "hidden", **nothing}
    first, second = csv.DictReader(table.read_text().splitlines())
    assert tuple(first) == COLUMNS
    assert float(first["scale"]) == seen["camera"]["scale"] == small_prediction.camera.scale.item()
    assert [float(first[name]) for name in ("left", "top", "right", "bottom")] == seen["box"]
    assert {name for name, value in second.items() if value} == {"frame", "time_s", "object", "problem"}


def test_both_files_say_how_sure_a_camera_is(small_prediction: Prediction, tmp_path: Path) -> None:
    sure = replace(small_prediction, score=0.75, expected_error_deg=21.5)
    with track_files(tmp_path / "cameras.csv", tmp_path / "cameras.json", "bird.mp4") as add:
        add(frames(sure)[0])
    [frame] = json.loads((tmp_path / "cameras.json").read_text())["frames"]
    assert (frame["objects"][0]["score"], frame["objects"][0]["expected_error_deg"]) == (0.75, 21.5)
    first, _ = csv.DictReader((tmp_path / "cameras.csv").read_text().splitlines())
    assert (first["score"], first["expected_error_deg"]) == ("0.75", "21.5")


def test_a_failure_leaves_no_file(small_prediction: Prediction, tmp_path: Path) -> None:
    def write() -> None:
        with track_files(tmp_path / "cameras.csv", tmp_path / "cameras.json", "bird.mp4") as add:
            add(frames(small_prediction)[0])
            raise KeyError("in the middle")

    with pytest.raises(KeyError, match="in the middle"):
        write()
    assert not list(tmp_path.iterdir())
