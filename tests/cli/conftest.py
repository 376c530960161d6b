"""Commands as users call them, in the test's own process."""

from pathlib import Path

from inference.conftest import checkpoints, huge_png, picture, small_prediction
from video.conftest import checkpoint, predictor, video_file

from kpose.cli import main

__all__ = [
    "call",
    "checkpoint",
    "checkpoints",
    "huge_png",
    "picture",
    "predict",
    "predictor",
    "small_prediction",
    "video_file",
]


def call(command: str, *arguments: str | Path) -> int:
    """Call a command and return its exit code."""
    try:
        main([command, *map(str, arguments)])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


PLACES = {"--box", "--mask", "--whole-frame"}


def predict(checkpoint: Path, out: Path, *arguments: str | Path) -> int:
    """Call ``kpose predict``, of the whole frame if no other place is given: looking for objects takes seconds."""
    place = [] if PLACES & set(arguments) else ["--whole-frame"]
    return call("predict", *arguments, *place, "--checkpoint", checkpoint, "--out", out)
