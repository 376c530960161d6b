"""A pipeline of all stages that is over in seconds: two dozen rendered birds of 32 pixels."""

import pytest

from kpose.pipeline import ChoiceSettings, Pipeline, PoseSettings, ReconstructionSettings, SearchSettings
from kpose.reconstruction import SearchLevel, ViewpointGrid

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
BACKBONE = {"class_path": "TinyBackbone", "init_args": {"width": 8}}
QUATERNION = {"class_path": "QuaternionHead"}
KEYPOINT = {"class_path": "KeypointHead", "init_args": {"num_keypoints": 8, "width": 8, "reads_shapes": False}}
TEXTURE = {"class_path": "kpose.reconstruction.TextureHead", "init_args": {"height": 8, "width": 2}}
RECONSTRUCTION = ReconstructionSettings(
    epochs=2,
    prune_epoch=1,
    keep=3,
    batch_size=BATCH,
    model={
        "reconstructor": {
            "class_path": "kpose.reconstruction.MeshReconstructor",
            "init_args": {"texture": TEXTURE},
        },
        "camera_lr": 1e-2,
    },
)


def birds(cache):
    return {
        "class_path": "SyntheticBirdsDataModule",
        "init_args": {
            "num_train": IMAGES,
            "num_val": 2,
            "num_test": 8,
            "image_size": 32,
            "batch_size": BATCH,
            "cache_dir": str(cache),
        },
    }


def pipeline(out, cache, **changes):
    settings = {
        "data": birds(cache),
        "backbone": BACKBONE,
        "heads": {"quaternion": QUATERNION},
        "search": SearchSettings((SearchLevel(16, 3, 0.1, 4e-4),), ViewpointGrid(4, 1), 100, batch_size=BATCH),
        "choice": ChoiceSettings(num_vertices=100, num_rotations=200, rounds=2),
        "pose": PoseSettings(epochs=1, batch_size=BATCH),
        "accelerator": "cpu",
        **changes,
    }
    return Pipeline(out=out, **settings)


def files(out):
    """Give the time of writing of every file of a step; every run writes those beside the steps' folders."""
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
