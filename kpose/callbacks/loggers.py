"""Loggers that take pictures."""

from typing import Any, cast

from jaxtyping import Float
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import Logger
from torch import Tensor

from kpose.visualization import to_pillow

__all__ = ["log_image", "picture_loggers"]


def picture_loggers(trainer: Trainer) -> list[Logger]:
    """Return a trainer's loggers that take pictures, Weights & Biases and TensorBoard, in the leading process."""
    if not trainer.is_global_zero:
        return []
    return [
        logger
        for logger in trainer.loggers
        if hasattr(logger, "log_image") or hasattr(getattr(logger, "experiment", None), "add_image")
    ]


def log_image(logger: Logger, name: str, image: Float[Tensor, "3 H W"], step: int) -> None:
    """Log a picture with values in [0, 1]."""
    if hasattr(logger, "log_image"):
        logger.log_image(key=name, images=[to_pillow(image)], step=step)
    else:
        cast(Any, logger).experiment.add_image(name, image.cpu(), step)
