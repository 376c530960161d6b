"""What all training stages share: checkpoints that load safely, and resuming exactly."""

import inspect
import logging
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch.optim import Optimizer

from kpose.data._training_loader import TrainingLoader

__all__ = ["Task"]

_log = logging.getLogger(__name__)

PLAIN = (bool, int, float, str, type(None))
_HALF_EPS = 1e-4  # about the least normal number of float16


class Task(pl.LightningModule):
    """Base of the training stages.

    Checkpoints hold tensors and plain values only, so that ``torch.load(weights_only=True)`` reads them. The state
    of torch's random generators travels with the checkpoint: a run that is resumed sees the same batches, in the
    same order, as one that was never interrupted; within an epoch with the loaders of kpose's data modules.

    Example:
        >>> from torch import nn
        >>> class Fit(Task):
        ...     def __init__(self, width: int = 8) -> None:
        ...         super().__init__()
        ...         self.record_hyperparameters()
        ...         self.layer = nn.Linear(width, 1)
        >>> Fit(16).hparams["width"]
        16
    """

    _loader_state: dict[str, int] | None = None

    def record_hyperparameters(self) -> None:
        """Save the constructor's arguments with the checkpoint; call it first thing in the constructor."""
        frame = inspect.currentframe()
        with warnings.catch_warnings():
            # Lightning advises to ignore modules, but the class paths that stand for them on the command line are
            # what rebuilds the task; those given in Python are left out when the checkpoint is written.
            warnings.filterwarnings("ignore", message="Attribute '.*' is an instance of `nn.Module`")
            self.save_hyperparameters(frame=frame and frame.f_back)
        # Recipes hold what was given as an object; loggers would warn that they cannot write it.
        saved: tuple[dict[str, Any], ...] = (vars(self)["_hparams"], vars(self)["_hparams_initial"])
        for name in [name for name, value in self.hparams.items() if not _is_plain(value)]:
            for hparams in saved:
                del hparams[name]

    def on_train_start(self) -> None:
        """Go on within an epoch, and keep optimizers from dividing by zero in float16."""
        loader = self.trainer.train_dataloader
        if self._loader_state is not None and isinstance(loader, TrainingLoader):
            # Lightning forgets it where a schedule has asked for the number of batches.
            loader.load_state_dict(self._loader_state)
        self._loader_state = None
        for optimizer in self.trainer.optimizers:
            _keep_from_zero(optimizer)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep plain hyper-parameters only; add the random state, and how far the epoch is."""
        key = self.CHECKPOINT_HYPER_PARAMS_KEY
        if key in checkpoint:
            checkpoint[key] = {name: v for name, v in dict(checkpoint[key]).items() if _is_plain(v)}
        loader = None if self._trainer is None else self.trainer.train_dataloader
        if isinstance(loader, TrainingLoader):
            checkpoint["loader_state"] = loader.state_dict()
        checkpoint["random_state"] = torch.get_rng_state()
        if torch.cuda.is_available():
            checkpoint["cuda_random_state"] = torch.cuda.get_rng_state_all()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what belongs to a fit when one is resumed; merely loading weights leaves it alone."""
        if self._trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        self._loader_state = checkpoint.get("loader_state")
        if "random_state" in checkpoint:
            torch.set_rng_state(checkpoint["random_state"].cpu())
        devices = [state.cpu() for state in checkpoint.get("cuda_random_state", [])]
        if torch.cuda.is_available() and len(devices) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(devices)


def _keep_from_zero(optimizer: Optimizer) -> None:
    """Raise what an optimizer adds to its divisor, commonly 1e-8, where that is zero in float16."""
    for group in optimizer.param_groups:
        if group.get("eps", 1.0) < _HALF_EPS and any(p.dtype == torch.float16 for p in group["params"]):
            _log.warning(
                "%s trains float16 with eps=%g in place of %g, which is zero there.",
                *(type(optimizer).__name__, _HALF_EPS, group["eps"]),
            )
            group["eps"] = _HALF_EPS


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(v) for key, v in value.items())
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):  # a named tuple needs its class
        return all(_is_plain(v) for v in value)
    return type(value) in PLAIN
