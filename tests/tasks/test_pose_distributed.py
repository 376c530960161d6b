"""Two processes, each with half of every batch, learn and score the same poses as one."""

from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from processes import in_two_processes, join
from reconstruction.scenes import GRID, birds
from reconstruction.training import QUIET, Birds, Data, tensors, trainer
from torch.utils.data import DataLoader

from kpose.backbones import TinyBackbone
from kpose.heads import KeypointHead, QuaternionHead
from kpose.reconstruction import CameraTable
from kpose.tasks import PoseEstimator

pytestmark = QUIET
HEADS = {
    "quaternion": partial(QuaternionHead, width=16),
    "keypoint": partial(KeypointHead, num_keypoints=12, width=8),
}
# Batches of one image make the keypoints' loss, a weighted mean over the maps of a batch, independent of the split.
SCORED_TOGETHER = {"quaternion": 4, "keypoint": 1}
CASES = [("quaternion", True), ("keypoint", False)]  # a table's cameras are the labels of any head


class Pictures(Data):
    """Four birds to learn from, and five to score: a number that two processes cannot share evenly."""

    def __init__(self, batch_size, scored_together):
        super().__init__(batch_size)
        self.scored_together = scored_together

    def val_dataloader(self):
        return DataLoader(Birds(birds(5)), batch_size=self.scored_together)

    test_dataloader = val_dataloader


class StillStatistics(pl.Callback):
    """Keep batch normalization as it is: processes see halves of a batch, and share statistics on GPUs only."""

    def on_train_epoch_start(self, trainer, pl_module):
        for module in pl_module.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()


def write_cameras(folder):
    """Write a table that labels the four birds with cameras of a grid."""
    batch = birds()
    table = CameraTable(batch["index"], names=Birds(batch).names, grid=GRID)
    table.set_reference_crop(table.rows(batch["index"]), batch["crop"])
    losses = torch.rand(4, table.num_cameras, generator=torch.Generator().manual_seed(0))
    table.set_score(table.rows(batch["index"]), losses)
    table.save(Path(folder, "cameras.safetensors"))


def run_once(folder, head, by_table, **settings):
    torch.manual_seed(0)
    model = PoseEstimator(
        TinyBackbone(width=8),
        HEADS[head],
        optimizer=partial(torch.optim.SGD, lr=0.05),
        lr_scheduler=None,
        cameras=Path(folder, "cameras.safetensors") if by_table else None,
    )
    data = Pictures(4 // settings.get("devices", 1), SCORED_TOGETHER[head])
    run = trainer(folder, max_epochs=2, check_val_every_n_epoch=2, callbacks=[StillStatistics()], **settings)
    (before,) = run.test(model, data, verbose=False)
    start = {name: value.clone() for name, value in tensors(model).items()}
    run.fit(model, data)
    after = {name: value.item() for name, value in run.callback_metrics.items() if name.startswith("val/")}
    return {"start": start, "weights": tensors(model), "before": before, "after": after}


def run_rank(rank: int, folder: str) -> None:
    join(rank, folder)
    found = [run_once(folder, *case, strategy="ddp", devices=2) for case in CASES]
    torch.save(found, Path(folder, f"{rank}.pt"))


def distance(first, second):
    return sum((first[name] - second[name]).double().square().sum() for name in first).sqrt()


@pytest.mark.ddp
def test_two_processes_equal_one(tmp_path):
    write_cameras(tmp_path)
    in_two_processes(run_rank, tmp_path)
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    for (head, by_table), first, second in zip(CASES, *ranks, strict=True):
        expected = run_once(tmp_path, head, by_table)
        moved = distance(expected["weights"], expected["start"])
        assert moved > 0.1
        assert distance(first["weights"], second["weights"]) == 0
        assert first["before"] == second["before"] == pytest.approx(expected["before"], rel=1e-4, abs=1e-6)
        assert first["after"] == second["after"]
        # The keypoints' loss is a weighted mean over the maps of a process: halves weigh a little differently.
        close = 1e-2 if head == "keypoint" else 1e-4
        assert distance(first["weights"], expected["weights"]) < close * moved, (head, by_table)
        names = ["val/loss"] if head == "keypoint" else list(expected["after"])
        for name in names:
            assert first["after"][name] == pytest.approx(expected["after"][name], rel=close, abs=1e-6), name
