"""Tracks of cameras as CSV and JSON, written frame by frame."""

import csv
import json
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import kpose
from kpose._files import fresh_file
from kpose.geometry import matrix_to_quaternion
from kpose.video import FramePredictions, ObjectPrediction

__all__ = ["COLUMNS", "TrackFiles", "object_record"]

COLUMNS = (
    "frame", "time_s", "object", "problem", "valid", "left", "top", "right", "bottom", "scale", "tx", "ty",
    "qw", "qx", "qy", "qz",
)  # fmt: skip
"""Columns of the CSV file; cells are empty where there is no box or no camera."""


class TrackFiles:
    """Write the cameras of a video as they come: one row for each object and frame, nothing is kept in memory.

    Both files appear under their names at the end, or not at all if the block fails.
    """

    def __init__(self, table: Path, record: Path, video: str) -> None:
        self._paths = table, record
        self._video = video
        self._stack = ExitStack()
        self._first = True

    def __enter__(self) -> "TrackFiles":
        """Open the files."""
        table, record = (self._stack.enter_context(fresh_file(path)) for path in self._paths)
        self._table: Any = self._stack.enter_context(table.open("w", encoding="utf-8", newline=""))
        self._record = self._stack.enter_context(record.open("w", encoding="utf-8"))
        self._rows = csv.writer(self._table)
        self._rows.writerow(COLUMNS)
        head = {"kpose": kpose.__version__, "video": self._video}
        self._record.write(json.dumps(head)[:-1] + ', "frames": [')
        return self

    def add(self, found: FramePredictions) -> None:
        """Write the objects of a frame."""
        objects = [object_record(thing) for thing in found.objects]
        frame, time = found.frame.number, round(found.frame.time_s, 6)
        for thing in objects:
            camera = thing["camera"] or {"scale": "", "translation": ("", ""), "quaternion": ("",) * 4}
            numbers = (camera["scale"], *camera["translation"], *camera["quaternion"])
            box = thing["box"] or ("",) * 4
            valid = "" if thing["valid"] is None else int(thing["valid"])
            self._rows.writerow((frame, time, thing["object"], thing["problem"], valid, *box, *numbers))
        line = json.dumps({"frame": frame, "time_s": time, "objects": objects}, allow_nan=False)
        self._record.write(f"{'' if self._first else ','}\n{line}")
        self._first = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the files, or leave none."""
        if kind is None:
            self._record.write("\n]}\n")
        self._stack.__exit__(kind, error, trace)


def object_record(thing: ObjectPrediction) -> dict[str, Any]:
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
        "box": None if thing.track.box is None else list(thing.track.box),
        "camera": camera,
    }
