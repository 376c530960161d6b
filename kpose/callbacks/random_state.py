"""The state of the random generators, kept with a run that may be resumed."""

import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback

__all__ = ["KeepRandomState"]


class KeepRandomState(Callback):
    """Keep the state of the random generators in checkpoints: a resumed run draws what it would have drawn.

    Which generators: those of torch on the CPU and on every GPU, of NumPy and of Python. A checkpoint that was made
    without this callback, or with another number of GPUs, leaves what it does not hold as it is.
    """

    def state_dict(self) -> dict[str, Any]:
        """Give the state in tensors and plain values, which can be loaded from a file of any origin."""
        kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 - that of others' code is kept too
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": (kind, np.asarray(keys).tolist(), *rest),
            "python": random.getstate(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Set the state of a checkpoint; Lightning draws the first batch of the resumed epoch after this."""
        torch.set_rng_state(state_dict["torch"].cpu())
        if state_dict["cuda"] and len(state_dict["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in state_dict["cuda"]])
        np.random.set_state(tuple(state_dict["numpy"]))  # noqa: NPY002
        version, words, gauss = state_dict["python"]
        random.setstate((version, tuple(words), gauss))
