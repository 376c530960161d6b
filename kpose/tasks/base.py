"""What all training stages share: checkpoints that load safely, and resuming exactly."""

import inspect
import warnings
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn

__all__ = ["Task"]

PLAIN = (bool, int, float, str, type(None))


class Task(pl.LightningModule):
    """Base of the training stages.

    Checkpoints hold tensors and plain values only, so that ``torch.load(weights_only=True)`` reads them. The state
    of torch's random generators travels with the checkpoint: a run that is resumed sees the same batches, in the
    same order, as one that was never interrupted, also within an epoch if its loader has a state.
    """

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
        """Go on within an epoch, which Lightning forgets where a schedule has asked for the number of batches."""
        self.trainer.fit_loop._load_combined_loader_states()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep plain hyper-parameters only and add the random state."""
        key = self.CHECKPOINT_HYPER_PARAMS_KEY
        if key in checkpoint:
            checkpoint[key] = {name: v for name, v in dict(checkpoint[key]).items() if _is_plain(v)}
        checkpoint["random_state"] = torch.get_rng_state()
        if torch.cuda.is_available():
            checkpoint["cuda_random_state"] = torch.cuda.get_rng_state_all()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the random state when a fit is resumed; merely loading weights leaves it alone."""
        if self._trainer is None or self.trainer.state.fn != TrainerFn.FITTING:
            return
        if "random_state" in checkpoint:
            torch.set_rng_state(checkpoint["random_state"].cpu())
        devices = [state.cpu() for state in checkpoint.get("cuda_random_state", [])]
        if torch.cuda.is_available() and len(devices) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(devices)


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(v) for key, v in value.items())
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):  # a named tuple needs its class
        return all(_is_plain(v) for v in value)
    return type(value) in PLAIN
