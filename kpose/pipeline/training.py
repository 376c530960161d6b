"""Training that goes on where it was interrupted, and scoring."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger

from kpose._messages import one_line
from kpose.pipeline.folder import CHECKPOINT

__all__ = ["Precision", "device_of", "fast_precision", "fit", "score", "trained_weights"]

Precision = Literal["32-true", "bf16-mixed"]

_log = logging.getLogger(__name__)


def device_of(accelerator: str) -> torch.device:
    """Return the device that Lightning takes for an accelerator."""
    trainer = pl.Trainer(accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False)
    return trainer.strategy.root_device


def fast_precision(device: torch.device) -> Precision:
    """Return the precision that a network trains fastest in: bfloat16 where the device has instructions for it.

    Without them (a processor with AVX2 alone) a step in bfloat16 takes several times as long as in float32.

    Args:
        device: Where the network is trained.

    Example:
        >>> fast_precision(torch.device("cpu")) in ("32-true", "bf16-mixed")
        True
    """
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in torch 2.6
        return "bf16-mixed" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "32-true"
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return "32-true"
    return "bf16-mixed"


def fit(
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    folder: Path,
    *,
    epochs: int,
    accelerator: str,
    callbacks: Sequence[pl.Callback] = (),
    precision: Precision = "32-true",
) -> None:
    """Train a task; a training that was interrupted goes on with the epoch that was under way.

    The checkpoint in the folder is resumed; one that is damaged is deleted with a warning.
    """
    # One file, replaced after every epoch; with save_last alone Lightning writes it at the end of training only.
    keep = ModelCheckpoint(folder, Path(CHECKPOINT).stem, save_top_k=1, enable_version_counter=False)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator=accelerator,
        devices=1,
        precision=precision,
        limit_val_batches=0,
        enable_model_summary=False,
        logger=TensorBoardLogger(folder, name="logs", version=""),
        callbacks=[keep, *callbacks],
        log_every_n_steps=10,
    )
    last = folder / CHECKPOINT
    with _expected_warnings():
        trainer.fit(task, data, ckpt_path=last if _is_sound(last) else None, weights_only=True)


def score(task: pl.LightningModule, data: pl.LightningDataModule, *, accelerator: str) -> dict[str, float]:
    """Score a task on the test split; return scores by name, without the name of the split."""
    trainer = pl.Trainer(
        accelerator=accelerator, devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False
    )
    with _expected_warnings():
        (scores,) = trainer.test(task, data, verbose=False)
    return {name.removeprefix("test/"): value for name, value in scores.items()}


def trained_weights(folder: Path) -> dict[str, Any]:
    """Read the state dict of the task that `fit` has trained in a folder."""
    weights: dict[str, Any] = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)["state_dict"]
    return weights


@contextmanager
def _expected_warnings() -> Iterator[None]:
    """Leave out Lightning's advice on what is done on purpose."""
    with warnings.catch_warnings():
        # What an interrupted run left belongs there, and frozen networks are in evaluation.
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")
        yield


def _is_sound(checkpoint: Path) -> bool:
    """Check whether there is a checkpoint to resume; one that is damaged is deleted."""
    if not checkpoint.exists():
        return False
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch's readers raise whatever their parsers do
        _log.warning(
            "%s: it is damaged (%s) and is deleted; its training begins again.", checkpoint, one_line(error)[:200]
        )
        checkpoint.unlink()
        return False
    return True
