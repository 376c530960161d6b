import pytorch_lightning as pl
import torch
from pipeline.small import BATCH, QUIET, backbone, birds

from kpose.heads import QuaternionHead
from kpose.pipeline import TrainerSettings
from kpose.pipeline.engine import Engine
from kpose.pipeline.training import fit, score, trained_weights
from kpose.tasks import PoseEstimator

pytestmark = QUIET


ENGINE = Engine(TrainerSettings("cpu"))


def trained(cache, folder, epochs, engine=ENGINE):
    """Train for so many epochs, on top of those that the folder has."""
    pl.seed_everything(0)
    task = PoseEstimator(backbone(), QuaternionHead, lr_scheduler=None)
    data = birds(cache, num_train=2 * BATCH)
    fit(task, data, folder, epochs=epochs, engine=engine)
    return task, data, trained_weights(folder)


def test_a_pipeline_that_is_told_to_compile_trains_the_same(cache, tmp_path, monkeypatch):
    *_, plain = trained(cache, tmp_path / "plain", 1)
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call, **_: compiled.append(call) or call)
    *_, fast = trained(cache, tmp_path / "fast", 1, Engine(TrainerSettings("cpu", compile=True)))
    assert len(compiled) == 2  # backbone and head
    for name, value in plain.items():
        torch.testing.assert_close(fast[name], value)


def test_training_goes_on_with_the_next_epoch_and_is_scored(cache, tmp_path):
    task, data, once = trained(cache, tmp_path / "once", 2)
    *_, first = trained(cache, tmp_path / "parts", 1)
    *_, second = trained(cache, tmp_path / "parts", 2)
    assert all(torch.equal(second[name], value) for name, value in once.items())
    assert not all(torch.equal(first[name], value) for name, value in once.items())
    scores = score(task, data, tmp_path / "once", tmp_path, ENGINE)
    assert 0 < scores["angle_deg"] < 180
    assert not any("/" in name for name in scores)
