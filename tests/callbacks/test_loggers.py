import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger, Logger, TensorBoardLogger

from kpose.callbacks.loggers import log_image, picture_loggers


class Pictures(Logger):
    """A logger like that of Weights & Biases."""

    name = version = None

    def __init__(self):
        super().__init__()
        self.logged = []

    def log_hyperparams(self, *args, **kwargs):
        raise AssertionError("nothing but pictures")

    log_metrics = log_hyperparams

    def log_image(self, key, images, step):
        self.logged.append((key, images[0].size, step))


def test_loggers_of_pictures_are_found(tmp_path):
    loggers = [CSVLogger(tmp_path), TensorBoardLogger(tmp_path), Pictures()]
    found = picture_loggers(pl.Trainer(accelerator="cpu", logger=loggers, enable_checkpointing=False))
    assert found == loggers[1:]


def test_a_picture_is_logged_under_its_name_and_step():
    logger = Pictures()
    log_image(logger, "val/overlays", torch.zeros(3, 4, 6), 7)
    assert logger.logged == [("val/overlays", (6, 4), 7)]
