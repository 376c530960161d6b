import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kpose.backbones import TinyBackbone
from kpose.geometry import box_to_crop
from kpose.heads import KeypointHead, QuaternionHead
from kpose.inference import Prediction
from kpose.structures import Camera, Mesh
from kpose.tasks import PoseEstimator
from kpose.templates import bird
from kpose.templates._coarsen import coarsen_template

HEADS = {"keypoint": partial(KeypointHead, num_keypoints=16, width=16), "quaternion": QuaternionHead}


def picture(size: tuple[int, int] = (96, 72), seed: int = 0) -> Image.Image:
    """Make a photo of noise, of a width and height."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def build_task(head: str) -> PoseEstimator:
    """Build an untrained task of a mesh that is quickly drawn, the same at every call."""
    torch.manual_seed(0)
    template = coarsen_template(bird(), 200)
    task = PoseEstimator(TinyBackbone(width=8), HEADS[head], template=template).eval()
    task.network.image_size = 64
    return task


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write checkpoints as ``kpose fit`` does, of untrained tasks."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for head in HEADS:
        task = build_task(head)
        contents = {
            "state_dict": task.state_dict(),
            "hyper_parameters": {"feature_dropout": 0.0},
            "hparams_name": "kwargs",
            "pytorch-lightning_version": "2.6.0",
        }
        task.on_save_checkpoint(contents)
        torch.save(contents, folder / f"{head}.ckpt")
    return {head: folder / f"{head}.ckpt" for head in HEADS}


@pytest.fixture
def tiny_task() -> Callable[[str], PoseEstimator]:
    """Build the task that a checkpoint was written from."""
    return build_task


@pytest.fixture
def huge_png() -> bytes:
    """Make the beginning of a PNG that claims to be 60,000 pixels wide and high."""
    content = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"0"))):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return content


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
