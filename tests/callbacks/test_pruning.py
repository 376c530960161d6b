import logging
import math

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from reconstruction.training import QUIET, Data, task, tensors, trainer

from kpose.callbacks import PruneCameras

pytestmark = QUIET


def fit(folder, epochs=3, callbacks=(), **resume):
    model = task(camera_lr=0.02)
    saves = any(isinstance(callback, ModelCheckpoint) for callback in callbacks)
    run = trainer(folder, max_epochs=epochs, callbacks=list(callbacks), enable_checkpointing=saves)
    run.fit(model, Data(shuffle=True), **resume)
    return model, run


def saving(folder):
    return ModelCheckpoint(folder, "{epoch}", save_top_k=-1, auto_insert_metric_name=False)


def test_the_best_cameras_are_kept_from_the_set_epoch_on(tmp_path, caplog):
    with caplog.at_level(logging.INFO, "kpose.callbacks.pruning"):
        model, run = fit(tmp_path, callbacks=[PruneCameras(epoch=1, keep=2), saving(tmp_path)])
    counts = [
        torch.load(tmp_path / f"{epoch}.ckpt", weights_only=True)["state_dict"][
            "camera_optimizer.table.scale"
        ].shape
        for epoch in range(3)
    ]
    assert counts == [(4, 4), (4, 2), (4, 2)]
    logged = {name.removeprefix("cameras/"): float(value) for name, value in run.callback_metrics.items()}
    assert logged["before_count"] == 4
    assert logged["after_count"] == 2
    assert logged["after_best_loss"] == pytest.approx(logged["before_best_loss"])
    assert logged["after_loss"] < logged["before_loss"]
    assert 0 < logged["after_spread_deg"] < 180
    # Four azimuths: two neighbors at 90° and one opposite at 180°, before they turned a little.
    assert logged["before_spread_deg"] == pytest.approx(120, abs=15)
    assert "pruned 4 cameras an image to 2" in caplog.text
    assert model.table.num_cameras == 2


def test_a_least_angle_keeps_cameras_apart(tmp_path):
    model, _ = fit(tmp_path, 2, [PruneCameras(epoch=1, keep=2, min_angle_deg=150.0)])
    first, second = model.table.rotation.unbind(1)
    cosine = ((first.mT @ second).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    assert (cosine < math.cos(math.radians(140))).all()


def test_a_resumed_run_prunes_alike(tmp_path):
    settings = {"epoch": 1, "keep": 2, "camera_lr": 0.1}
    whole, _ = fit(tmp_path, 3, [PruneCameras(**settings), saving(tmp_path)])
    for epoch in (1, 0):
        resume = {"ckpt_path": tmp_path / f"{epoch}.ckpt", "weights_only": True}
        resumed, _ = fit(tmp_path, 3, [PruneCameras(**settings), saving(tmp_path)], **resume)
        assert resumed.camera_optimizer.lr == 0.1
        for name, value in tensors(whole).items():
            assert torch.equal(value, tensors(resumed)[name]), (epoch, name)


def test_few_cameras_stay(tmp_path):
    model, run = fit(tmp_path, 2, [PruneCameras(epoch=1, keep=4)])
    assert model.table.num_cameras == 4
    assert "cameras/after_count" not in run.callback_metrics


def test_a_negative_epoch_is_refused():
    with pytest.raises(ValueError, match="needs an epoch from 0; got -1"):
        PruneCameras(-1)
