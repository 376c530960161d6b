"""Tracks of cameras as CSV and JSON, written frame by frame."""

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import kpose
from kpose._files import fresh_file
from kpose.geometry import matrix_to_quaternion
from kpose.video.predictor import FramePredictions, ObjectPrediction

__all__ = ["COLUMNS", "track_files"]

COLUMNS = (
    "frame", "time_s", "object", "problem", "valid", "left", "top", "right", "bottom", "scale", "tx", "ty",
    "qw", "qx", "qy", "qz", "score", "expected_error_deg",
)  # fmt: skip
"""Columns of the CSV file; cells are empty where there is no box or no camera."""


@contextmanager
def track_files(table: Path, record: Path, video: str) -> Iterator[Callable[[FramePredictions], None]]:
    """Yield what writes the cameras of a frame, one row for each object: nothing is kept in memory.

    The table is a CSV file, the record a JSON file that notes the video. Both appear under their names at the end,
    or not at all if the block fails.
    """
    with (
        fresh_file(table) as fresh_table,
        fresh_file(record) as fresh_record,
        fresh_table.open("w", encoding="utf-8", newline="") as csv_file,
        fresh_record.open("w", encoding="utf-8") as json_file,
    ):
        rows = csv.writer(csv_file)
        rows.writerow(COLUMNS)
        separators = chain([""], repeat(","))

        def add(found: FramePredictions) -> None:
            objects = [_object_record(thing) for thing in found.objects]
            frame, time = found.frame.number, round(found.frame.time_s, 6)
            for thing in objects:
                camera = thing["camera"] or {"scale": "", "translation": ("", ""), "quaternion": ("",) * 4}
                numbers = (camera["scale"], *camera["translation"], *camera["quaternion"])
                box = thing["box"] or ("",) * 4
                valid = "" if thing["valid"] is None else int(thing["valid"])
                sure = (thing["score"], thing["expected_error_deg"])
                rows.writerow((frame, time, thing["object"], thing["problem"], valid, *box, *numbers, *sure))
            line = json.dumps({"frame": frame, "time_s": time, "objects": objects}, allow_nan=False)
            json_file.write(f"{next(separators)}\n{line}")

        json_file.write(json.dumps({"kpose": kpose.__version__, "video": video})[:-1] + ', "frames": [')
        yield add
        json_file.write("\n]}\n")


def _object_record(thing: ObjectPrediction) -> dict[str, Any]:
    """Return one object of one frame in plain values."""
    camera = None
    if thing.prediction is not None:
        found = thing.prediction.camera
        camera = {
            "scale": found.scale.item(),
            "translation": found.translation.tolist(),
            "quaternion": matrix_to_quaternion(found.rotation).tolist(),
        }
    return {
        "object": thing.identity,
        "problem": thing.problem or None,
        "valid": None if thing.prediction is None else thing.prediction.valid,
        "score": None if thing.prediction is None else thing.prediction.score,
        "expected_error_deg": None if thing.prediction is None else thing.prediction.expected_error_deg,
        "box": None if thing.track.box is None else list(thing.track.box),
        "camera": camera,
    }
