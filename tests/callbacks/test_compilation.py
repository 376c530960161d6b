"""Compiled training; that heads and the solver are one graph is checked in tests/test_export.py."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pipeline.small import QUIET

from kpose.backbones import TinyBackbone
from kpose.callbacks import Compilation
from kpose.heads import GramSchmidtHead
from kpose.tasks import PoseEstimator
from kpose.testing import example_batch

pytestmark = [
    *QUIET,
    pytest.mark.filterwarnings("ignore:.*logging interval"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
]


def trained(folder, *callbacks):
    torch.manual_seed(0)
    task = PoseEstimator(TinyBackbone(width=8), GramSchmidtHead)
    trainer = pl.Trainer(
        default_root_dir=folder, accelerator="cpu", max_steps=2, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, callbacks=list(callbacks),
    )  # fmt: skip
    loader = torch.utils.data.DataLoader([example_batch(2)] * 2, batch_size=None)
    trainer.fit(task, loader)
    trainer.save_checkpoint(folder / "last.ckpt")
    return torch.load(folder / "last.ckpt", weights_only=True)


def test_a_checkpoint_does_not_tell_whether_training_was_compiled(tmp_path, monkeypatch):
    compiled = []

    def compile_in_python(model, **kwargs):
        compiled.append(model)
        return partial(model)

    plain = trained(tmp_path / "plain")
    monkeypatch.setattr(torch, "compile", compile_in_python)
    fast = trained(tmp_path / "fast", Compilation())
    assert {type(call.__self__) for call in compiled} == {TinyBackbone, GramSchmidtHead}
    assert fast["hyper_parameters"] == plain["hyper_parameters"]
    assert fast["recipe"] == plain["recipe"]
    assert fast["state_dict"].keys() == plain["state_dict"].keys()
    for name, value in plain["state_dict"].items():
        torch.testing.assert_close(fast["state_dict"][name], value)
