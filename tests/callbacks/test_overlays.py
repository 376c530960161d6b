import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from kpose.backbones import TinyBackbone
from kpose.callbacks.overlays import LogOverlays, picture_prediction
from kpose.heads import KeypointHead, QuaternionHead
from kpose.structures import Mesh
from kpose.tasks import PoseEstimator
from kpose.testing import example_batch


class Data(pl.LightningDataModule):
    """One batch of noise, already collated."""

    def val_dataloader(self):
        return torch.utils.data.DataLoader([example_batch(3)], batch_size=None)


def validate(logger, tmp_path, callback=None):
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=logger,
        callbacks=[callback or LogOverlays(num_images=2)],
        enable_progress_bar=False,
        enable_checkpointing=False,
    )
    trainer.validate(PoseEstimator(TinyBackbone(width=8), head=QuaternionHead), Data(), verbose=False)


pytestmark = pytest.mark.filterwarnings("ignore:The .* does not have many workers")


@pytest.mark.parametrize(("head", "pictures"), [(QuaternionHead, 2), (KeypointHead, 4)])
def test_picture_shows_the_crop_and_the_pose_on_it(head, pictures):
    model = PoseEstimator(TinyBackbone(width=8), head=head).eval()
    image = example_batch(2)["image"]
    picture = picture_prediction(image[1], model(image), Mesh(model.network.vertices, model.network.faces), 1)
    assert picture.shape == (3, 64, pictures * 64)
    assert torch.equal(picture[..., :64], image[1])
    assert not torch.equal(picture[..., -64:], image[1])


def test_tensorboard_gets_a_sheet(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    validate(TensorBoardLogger(tmp_path, name="", version="run"), tmp_path)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0}).Reload()
    assert events.Tags()["images"] == ["val/overlays"]


def test_weights_and_biases_gets_a_sheet_offline(tmp_path):
    wandb = pytest.importorskip("wandb")
    from pytorch_lightning.loggers import WandbLogger

    logger = WandbLogger(save_dir=tmp_path, offline=True, name="run")
    validate(logger, tmp_path)
    wandb.finish()
    assert list(tmp_path.glob("wandb/*/files/media/images/val/overlays*.png"))


@pytest.mark.parametrize("logger", [False, CSVLogger])
def test_other_loggers_are_passed_over(logger, tmp_path):
    validate(logger and logger(tmp_path), tmp_path)
    assert not list(tmp_path.rglob("*.png"))


def test_an_epoch_that_is_not_due_is_skipped(tmp_path, monkeypatch):
    callback = LogOverlays(every_n_epochs=5)
    monkeypatch.setattr(pl.Trainer, "current_epoch", 3)
    validate(TensorBoardLogger(tmp_path, name="", version="run"), tmp_path, callback)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert EventAccumulator(str(tmp_path / "run")).Reload().Tags()["images"] == []
