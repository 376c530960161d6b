"""Commands as users call them, in the test's own process."""

from pathlib import Path

import pytest
import torch
from inference.conftest import checkpoints, huge_png, picture
from video.conftest import checkpoint, predictor, video_file

from kpose.cli import main
from kpose.geometry import box_to_crop
from kpose.inference import Prediction
from kpose.structures import Camera, Mesh

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


@pytest.fixture
def small_prediction() -> Prediction:
    """Make what a photo gives, with a mesh of four colored faces."""
    square = (0.0, 0.0, 48.0, 48.0)
    vertices = torch.tensor([[0.8, 0.0, 0.0], [-0.8, 0.0, 0.0], [0.0, -0.8, 0.0], [0.0, 0.0, 0.8]])
    faces = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    camera = Camera(torch.tensor(20.0), torch.tensor([24.0, 24.0]), torch.eye(3))
    return Prediction(
        camera=camera,
        crop_camera=Camera(torch.tensor(0.8), torch.zeros(2), torch.eye(3)),
        crop=box_to_crop(torch.tensor(square)),
        square=square,
        box=None,
        located_by="frame",
        size=(48, 48),
        source=picture((48, 48)),
        mesh=Mesh(vertices, faces, vertex_colors=torch.rand(4, 3)),
    )
