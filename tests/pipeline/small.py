"""A pipeline of all stages that is over in seconds: two dozen rendered birds of 32 pixels."""

from functools import partial

import pytest
import torch

from kpose.backbones import TinyBackbone
from kpose.data import SyntheticBirdsDataModule
from kpose.heads import KeypointHead, QuaternionHead
from kpose.pipeline import ChoiceSettings, Pipeline, PoseSettings, SearchSettings, ShapeSettings, TrainerSettings
from kpose.reconstruction import MeshReconstructor, SearchLevel, TextureHead, ViewpointGrid
from kpose.tasks import ShapeAdaptation, ShapeTraining

QUIET = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    pytest.mark.filterwarnings("ignore:The number of training batches"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),  # frozen, as intended
    pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    # Lightning 2.6 still registers instantiators the old way.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]

IMAGES = 24
BATCH = 8
BATCHES = IMAGES // BATCH
KEYPOINT = partial(KeypointHead, num_keypoints=8, width=8, reads_shapes=False)
SMALL = partial(MeshReconstructor, texture=partial(TextureHead, height=8, width=2))
TASK = partial(ShapeTraining, reconstructor=SMALL, camera_lr=1e-2)
SHAPES = ShapeSettings(epochs=2, prune_epoch=1, keep=3, batch_size=BATCH, task=TASK)
ADAPTATION = partial(ShapeAdaptation, render_size=16)


def birds(cache, **changes):
    sizes = {"num_train": IMAGES, "num_val": 2, "num_test": 8, "image_size": 32, "batch_size": BATCH}
    return SyntheticBirdsDataModule(**{**sizes, "cache_dir": cache, **changes})


def backbone():
    torch.manual_seed(0)
    return TinyBackbone(width=8)


def pipeline(out, cache, **changes):
    settings = {
        "data": birds(cache),
        "backbone": backbone(),
        "heads": {"quaternion": QuaternionHead},
        "search": SearchSettings((SearchLevel(16, 3, 0.1, 4e-4),), ViewpointGrid(4, 1), 100, batch_size=BATCH),
        "choice": ChoiceSettings(num_vertices=100, num_rotations=200, rounds=2),
        "pose": PoseSettings(epochs=1, batch_size=BATCH),
        "trainer": TrainerSettings("cpu"),
        **changes,
    }
    return Pipeline(out=out, **settings)


def files(out):
    """Return the time of writing of every file of a step; every run writes those beside the steps' folders."""
    return {path.relative_to(out): path.stat().st_mtime_ns for path in out.glob("*/**/*") if path.is_file()}


class Kill(RuntimeError):
    pass


def killed_at(monkeypatch, place, name, call):
    """Raise at one of the calls of a function."""
    work, calls = getattr(place, name), 0

    def once(*args, **settings):
        nonlocal calls
        calls += 1
        if calls == call:
            raise Kill
        return work(*args, **settings)

    monkeypatch.setattr(place, name, once)
