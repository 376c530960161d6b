from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from inference.conftest import small_prediction
from PIL import Image, ImageDraw

from kpose.backbones import TinyBackbone
from kpose.data import VideoSequence
from kpose.heads import QuaternionHead
from kpose.inference import Predictor
from kpose.inference.segmentation import Segment, Segmenter
from kpose.tasks import PoseEstimator
from kpose.templates import bird
from kpose.templates._coarsen import coarsen_template
from kpose.video import Frame

__all__ = ["small_prediction"]

SIZE = (96, 64)


def draw_bird(number: int, *, hidden: bool = False) -> Image.Image:
    """Draw a red bird that moves to the right over green ground, or the ground alone."""
    picture = Image.new("RGB", SIZE, (40, 110, 50))
    drawing = ImageDraw.Draw(picture)
    drawing.rectangle((0, 44, 96, 64), fill=(120, 100, 60))
    if not hidden:
        left = 10 + 2 * number
        drawing.ellipse((left, 20, left + 24, 36), fill=(200, 40, 30))
        drawing.ellipse((left + 18, 14, left + 28, 24), fill=(220, 60, 40))
    return picture


def bird_box(number: int) -> tuple[float, float, float, float]:
    left = 10 + 2 * number
    return float(left), 14.0, left + 29.0, 37.0


def bird_mask(number: int) -> torch.Tensor:
    return torch.from_numpy(np.asarray(draw_bird(number)).astype(int)[..., 0] > 150)


def write_masks(folder: Path) -> VideoSequence:
    """Write the masks of ten frames of the bird."""
    paths = []
    for number in range(10):
        path = folder / f"{number:05}.png"
        Image.fromarray(bird_mask(number).numpy().astype(np.uint8) * 255).save(path)
        paths.append(path)
    return VideoSequence("bird", tuple(paths), tuple(paths), {1: "bird"})


class Reddest(Segmenter):
    """Finds the red bird, and doubtfully all else."""

    def segment(self, image: torch.Tensor) -> list[Segment]:
        mask = ((image[0] > 0.6) & (image[1] < 0.35)).float()
        return [Segment(mask, 0.9), Segment(1 - mask, 0.1)] if mask.any() else []


@pytest.fixture
def frames() -> list[Frame]:
    """Return ten frames of the bird."""
    return [Frame(number, number / 25, draw_bird(number)) for number in range(10)]


def build_task() -> PoseEstimator:
    torch.manual_seed(0)
    template = coarsen_template(bird(), 200)  # a mesh that is quickly drawn
    return PoseEstimator(TinyBackbone(width=8), QuaternionHead, template=template).eval()


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """Make a predictor of an untrained network."""
    return Predictor(build_task(), image_size=32)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the network of `predictor` as ``kpose fit`` does."""
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "quaternion.ckpt")


def write_checkpoint(path: Path) -> Path:
    task = build_task()
    task.network.image_size = 32
    contents = {"state_dict": task.state_dict(), "pytorch-lightning_version": "2.6.0"}
    task.on_save_checkpoint(contents)
    torch.save(contents, path)
    return path


@pytest.fixture
def video_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a video of the bird."""
    av = pytest.importorskip("av", reason="PyAV is not installed")

    def write(name: str = "bird.mp4", count: int = 12, codec: str = "mpeg4") -> Path:
        path = tmp_path / name
        with av.open(
            str(path), "w", options={"movflags": "faststart"} if name.endswith("mp4") else {}
        ) as container:
            stream = container.add_stream(codec, rate=10, options={"g": "4"})
            stream.width, stream.height = SIZE
            stream.pix_fmt = "yuv420p"
            for number in range(count):
                container.mux(stream.encode(av.VideoFrame.from_image(draw_bird(number))))
            container.mux(stream.encode(None))
        return path

    return write
