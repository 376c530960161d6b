import pytorch_lightning as pl
import torch

from kpose.tasks import Task
from kpose.tasks.base import _is_plain


class Idle(Task):
    def __init__(self, layer, size=3, options=None):
        super().__init__()
        self.record_hyperparameters()
        self.layer = layer


def test_modules_are_left_out_of_saved_hyperparameters():
    task = Idle(torch.nn.Linear(2, 2), size=4, options={"names": ["a"], "make": torch.optim.Adam})
    checkpoint = {Task.CHECKPOINT_HYPER_PARAMS_KEY: dict(task.hparams)}
    task.on_save_checkpoint(checkpoint)
    assert checkpoint[Task.CHECKPOINT_HYPER_PARAMS_KEY] == {"size": 4}


def test_plain_values():
    assert _is_plain({"a": [1, 2.0, None, "x", True], "b": {"c": (1,)}})
    assert not _is_plain([torch.zeros(1)])
    assert not _is_plain({1: 2})


def test_loading_outside_a_fit_leaves_the_random_state_alone():
    task = Idle(torch.nn.Linear(2, 2))
    checkpoint = {}
    task.on_save_checkpoint(checkpoint)
    torch.rand(3)
    before = torch.get_rng_state()
    task.on_load_checkpoint(checkpoint)
    task.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    task.on_load_checkpoint(checkpoint)
    assert torch.equal(torch.get_rng_state(), before)
