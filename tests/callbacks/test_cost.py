import json

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from kpose.callbacks import MeasureTraining, PeakMemory

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
]


class Linear(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(100, 100, bias=False)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


def fit(path, steps):
    trainer = pl.Trainer(
        default_root_dir=path.parent,
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[MeasureTraining(path)],
    )
    model = Linear()
    trainer.fit(model, DataLoader(torch.ones(10 * steps, 100), batch_size=10))
    return model


def test_memory_is_counted_while_it_is_held():
    kept = torch.zeros(1000)
    with PeakMemory() as memory:
        (kept + 1 + 1 + 1).sum()
    # The operand and two intermediate results, of which the older one is freed in time, and nothing twice.
    assert memory.peak == pytest.approx(4 * 3000, abs=16)
    with PeakMemory() as memory:
        view = kept[:10]
        view.t()
    assert memory.peak == 4000
    outside = torch.zeros(10**6) + 1
    assert memory.peak == 4000
    del outside


def test_cost_of_training_is_written(tmp_path):
    fit(tmp_path / "new" / "cost.json", steps=6)
    cost = json.loads((tmp_path / "new" / "cost.json").read_text())
    assert cost["step_ms"] > 0
    # Weights, their gradient and two moments, each 40 kB; batch and activations of 4 kB each.
    assert 4 * 40_000 < cost["peak_mib"] * 2**20 < 8 * 40_000


def test_a_short_run_has_no_figures(tmp_path):
    fit(tmp_path / "cost.json", steps=1)
    assert json.loads((tmp_path / "cost.json").read_text()) == {"step_ms": None, "peak_mib": None}


def test_measuring_changes_no_number(tmp_path):
    torch.manual_seed(0)
    measured = fit(tmp_path / "cost.json", steps=5)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeasureTraining, "on_train_batch_start", lambda *args: None)
        patch.setattr(MeasureTraining, "on_train_batch_end", lambda *args: None)
        plain = fit(tmp_path / "cost.json", steps=5)
    assert torch.equal(measured.layer.weight, plain.layer.weight)
