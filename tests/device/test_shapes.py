"""Training by images on a device: the losses of the CPU, and waits for what is rendered only."""

import device.accelerator
import pytest
import pytorch_lightning as pl
import torch
from reconstruction.scenes import birds, camera_table
from reconstruction.training import QUIET, Data
from reconstruction.training import task as shape_training
from tasks.test_shape_adaptation import task as shape_adaptation

from kpose.backbones import TinyBackbone
from kpose.heads import QuaternionHead
from kpose.tasks import PoseEstimator

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:You defined a `validation_step`")]


def pose_of_cameras(folder):
    """Stage 3, on the cameras of a file."""
    cameras = camera_table(birds())
    cameras.names = Data().birds.names
    cameras.save(folder / "cameras.safetensors")
    torch.manual_seed(0)
    return PoseEstimator(TinyBackbone(width=8), QuaternionHead, cameras=folder / "cameras.safetensors")


# How many sizes the host learns to draw what is compared: boxes, and the pairs of the hard and the soft outline.
TASKS = {
    "pose": (pose_of_cameras, 0),
    "shapes": (lambda folder: shape_training(), 3),
    "adaptation": (lambda folder: shape_adaptation(), 3),
}


class Watch(pl.Callback):
    """Notes what the host waits for in each training step, and the losses."""

    def __init__(self, place):
        self.place, self.waits, self.losses = place, [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.watched = self.place.watched()
        self.waits.append(self.watched.__enter__())

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.watched.__exit__(None, None, None)
        self.losses.append(outputs["loss"].detach())


def train(task, accelerator, folder, callback):
    pl.Trainer(
        default_root_dir=folder,
        accelerator=accelerator,
        devices=1,
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    ).fit(task, Data())


@pytest.mark.parametrize("name", TASKS)
def test_training_waits_for_renderings_only_and_learns_as_on_the_cpu(place, tmp_path, monkeypatch, name):
    make, budget = TASKS[name]
    here, there = Watch(place), Watch(place)
    train(make(tmp_path), "cpu", tmp_path, here)
    if place.accelerator == "pretend":
        device.accelerator.use(monkeypatch)
    train(make(tmp_path), place.accelerator, tmp_path, there)
    assert all(part.device.type == place.device.type for part in there.losses)
    losses = torch.stack([part.cpu() for part in there.losses])
    torch.testing.assert_close(losses, torch.stack(here.losses), rtol=1e-3, atol=1e-4)
    assert len(there.waits) == 4
    for waits in there.waits:
        assert len(waits) == budget, waits
        assert all("kpose/rendering/" in wait for wait in waits), waits


def test_images_that_a_table_lacks_are_refused_without_a_wait(place):
    table = camera_table(birds())
    if place.accelerator != "pretend":  # an assertion of a GPU ends the process
        pytest.skip("ends the process")
    table = table.to(place.device)
    with place.watched() as waits:
        table.rows(torch.tensor([10, 13]).to(place.device))
        with pytest.raises(RuntimeError, match="images that it was made for"):
            table.rows(torch.tensor([14]).to(place.device))
    assert [wait for wait in waits if "camera_table" in wait] == []
