"""Training that is killed goes on with the epoch that was under way, and draws what it would have drawn."""

import dataclasses
import shutil
from functools import partial

import pytest
import torch
from pipeline.small import ADAPTATION, BATCH, BATCHES, QUIET, SHAPES, TASK, Kill, killed_at, pipeline
from transformers import ResNetBackbone, ResNetConfig

from kpose.backbones import TransformersBackbone
from kpose.heads import QuaternionHead
from kpose.pipeline import AdaptationSettings, PoseSettings, RerankSettings
from kpose.tasks import PoseEstimator, ShapeAdaptation, ShapeTraining, Task

pytestmark = QUIET


@pytest.fixture(scope="module")
def resnet(tmp_path_factory):
    """A backbone whose frozen features can be kept."""
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic")
    path = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(1)
    ResNetBackbone(config).save_pretrained(path)
    return TransformersBackbone(path, [2, 3])


@pytest.fixture
def stages(resnet):
    """Settings of all stages, with every draw that there is: views, order of images, dropout."""
    return {
        "backbone": resnet,
        "views": 2,
        "shapes": dataclasses.replace(SHAPES, epochs=3, task=partial(TASK, render_size=16)),
        "rerank": RerankSettings({"quaternion": QuaternionHead}),
        "pose": PoseSettings(epochs=2, batch_size=BATCH, feature_dropout=0.2),
        "adaptation": AdaptationSettings(epochs=2, batch_size=BATCH, task=partial(ADAPTATION, feature_dropout=0.2)),
    }


# Training steps before the kill, and the epoch that the next run goes on with. A fold has one batch an epoch.
MOMENTS = [
    (PoseEstimator, 2, 1),
    (ShapeTraining, 2 * BATCHES + 2, 2),  # after the cameras were pruned
    (PoseEstimator, BATCHES + 2, 1),
    (ShapeAdaptation, BATCHES + 2, 1),
]


def test_a_stage_goes_on_with_its_epoch_and_ends_the_same(stages, cache, tmp_path, monkeypatch):
    whole = pipeline(tmp_path / "whole", cache, **stages).run()
    started = []
    monkeypatch.setattr(Task, "on_train_epoch_start", lambda self: started.append((type(self), self.current_epoch)))
    for task, call, epoch in MOMENTS:
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, task, "training_step", call)
            with pytest.raises(Kill):
                pipeline(tmp_path / "killed", cache, **stages).run()
        started.clear()
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, task, "training_step", 1)
            with pytest.raises(Kill):
                pipeline(tmp_path / "killed", cache, **stages).run()
        assert started == [(task, epoch)]
    torch.manual_seed(99)
    assert pipeline(tmp_path / "killed", cache, **stages).run() == whole


TWO_EPOCHS = {"choice": None, "pose": PoseSettings(epochs=2, batch_size=BATCH)}


@pytest.fixture(scope="module")
def killed(cache, tmp_path_factory):
    """Folder of a run that was killed in the second epoch of its head."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, PoseEstimator, "training_step", BATCHES + 2)
        with pytest.raises(Kill):
            pipeline(folder, cache, **TWO_EPOCHS).run()
    return folder


@pytest.mark.parametrize("left", [0, 0.5, 0.99])
def test_a_damaged_checkpoint_is_deleted_and_the_step_done_again(killed, cache, tmp_path, caplog, left):
    out = shutil.copytree(killed, tmp_path / "out")
    (last,) = out.glob("heads/quaternion/*/last.ckpt")
    content = last.read_bytes()
    last.write_bytes(content[: round(left * len(content))])
    metrics = pipeline(out, cache, **TWO_EPOCHS).run()
    assert metrics["heads"]["quaternion"]["angle_deg"] > 0
    assert any(str(last) in line and "is deleted" in line for line in caplog.messages)
