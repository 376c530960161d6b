import pytest
import pytorch_lightning as pl
import torch
from pipeline.small import BATCH, QUIET, backbone, birds
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from kpose.heads import QuaternionHead
from kpose.pipeline.training import device_of, fast_precision, fit, score, trained_weights
from kpose.tasks import PoseEstimator

pytestmark = QUIET


def test_the_device_is_lightning_s(monkeypatch):
    assert device_of("cpu") == torch.device("cpu")
    monkeypatch.setattr(pl.accelerators.CUDAAccelerator, "is_available", staticmethod(lambda: False))
    with pytest.raises(MisconfigurationException):
        device_of("cuda")


def test_bfloat16_is_for_processors_that_have_it(monkeypatch):
    for capabilities, expected in (({"avx2": True}, "32-true"), ({"avx512_bf16": True}, "bf16-mixed")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert fast_precision(torch.device("cpu")) == expected


def trained(tmp_path, name, epochs):
    """Train for so many epochs, on top of those that the folder has."""
    pl.seed_everything(0)
    task = PoseEstimator(backbone(), QuaternionHead, lr_scheduler=None)
    data = birds(tmp_path, num_train=2 * BATCH)
    fit(task, data, tmp_path / name, epochs=epochs, accelerator="cpu")
    return task, data, trained_weights(tmp_path / name)


def test_training_goes_on_with_the_next_epoch_and_is_scored(tmp_path):
    task, data, once = trained(tmp_path, "once", 2)
    *_, first = trained(tmp_path, "parts", 1)
    *_, second = trained(tmp_path, "parts", 2)
    assert all(torch.equal(second[name], value) for name, value in once.items())
    assert not all(torch.equal(first[name], value) for name, value in once.items())
    scores = score(task, data, accelerator="cpu")
    assert 0 < scores["angle_deg"] < 180
    assert not any("/" in name for name in scores)
