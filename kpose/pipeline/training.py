"""Training that goes on where it was interrupted, and scoring."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger

from kpose._distributed import broadcast, rank
from kpose._messages import one_line
from kpose.callbacks import Compilation
from kpose.pipeline.engine import Engine
from kpose.pipeline.folder import CHECKPOINT
from kpose.pipeline.interruption import SaveAndEnd
from kpose.pipeline.settings import Precision
from kpose.tasks import ShapeAdaptation

__all__ = ["fit", "score", "trained_weights"]

CHECKPOINT_INTERVAL = timedelta(minutes=15)

_log = logging.getLogger(__name__)


def fit(
    task: pl.LightningModule,
    data: pl.LightningDataModule,
    folder: Path,
    *,
    epochs: int,
    engine: Engine,
    callbacks: Sequence[pl.Callback] = (),
    precision: Precision = "32-true",
) -> None:
    """Train a task; a training that was interrupted goes on where its last checkpoint was written.

    That is the end of an epoch, some minutes ago, or the step after which a signal came. The checkpoint in the
    folder is resumed; one that is damaged is deleted with a warning.
    """
    last, name = folder / CHECKPOINT, Path(CHECKPOINT).stem
    # One file, replaced after every epoch; with save_last alone Lightning writes it at the end of training only.
    keep = [
        ModelCheckpoint(folder, name, save_top_k=1, enable_version_counter=False, train_time_interval=interval)
        for interval in (None, CHECKPOINT_INTERVAL)
    ]
    compiled = [Compilation()] if engine.settings.compile else []
    trainer = engine.trainer(
        folder,
        precision=precision,
        # Stage 4 trains a head by its camera alone: parts that it does not depend on get no gradient.
        strategy="ddp_find_unused_parameters_true" if isinstance(task, ShapeAdaptation) else "auto",
        callbacks=[SaveAndEnd(engine.interruption, last), *compiled, *callbacks, *keep],
        max_epochs=epochs,
        limit_val_batches=0,
        logger=TensorBoardLogger(folder, name="logs", version=""),
        log_every_n_steps=10,
    )
    sound = broadcast(rank() == 0 and _is_sound(last))
    with _expected_warnings(), engine.interruption.training():
        trainer.fit(task, data, ckpt_path=last if sound else None, weights_only=True)


def score(
    task: pl.LightningModule, data: pl.LightningDataModule, trained: Path, folder: Path, engine: Engine
) -> dict[str, float]:
    """Score what `fit` has trained in a folder on the test split; return scores by name, without the split's."""
    end = SaveAndEnd(engine.interruption, folder / CHECKPOINT)
    trainer = engine.trainer(folder, callbacks=[end], logger=False, enable_checkpointing=False)
    with _expected_warnings():
        (scores,) = trainer.test(task, data, ckpt_path=trained / CHECKPOINT, weights_only=True, verbose=False)
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
        # Scoring needs none of the callbacks of training.
        warnings.filterwarnings("ignore", message="Be aware that when using `ckpt_path`, callbacks used to create")
        # Images that processes get twice are scored once.
        warnings.filterwarnings("ignore", message="Using `DistributedSampler` with the dataloaders")
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
