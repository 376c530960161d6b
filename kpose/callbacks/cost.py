"""What a step of training costs: time, and memory of the tensors."""

import json
import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kpose.files import write_text

__all__ = ["MeasureTraining", "PeakMemory"]

MEASURED = (1, 2)  # steps whose memory is measured; in the first the optimizer has no state yet


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch annotates no such class
    """Count the bytes of all tensors that operations touch within the context, and keep the highest count.

    What is counted does not depend on allocators or on what else the process holds, so that the same code has the
    same peak everywhere. Memory that an operation takes and gives back within itself is not seen.

    Example:
        >>> with PeakMemory() as memory:
        ...     total = torch.ones(1000).add(1).sum()
        >>> memory.peak
        8000
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        """Highest number of bytes so far."""
        self._sizes: dict[int, int] = {}
        self._now = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - the result of any operation
        """Run an operation and count what goes in and comes out."""
        self._count((args, kwargs))
        result = func(*args, **(kwargs or {}))
        self._count(result)
        return result

    def _count(self, values: object) -> None:
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor) and leaf.layout == torch.strided:
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self._sizes:
                    self._sizes[key] = storage.nbytes()
                    self._now += storage.nbytes()
                    weakref.finalize(storage, self._forget, key)
        self.peak = max(self.peak, self._now)

    def _forget(self, key: int) -> None:
        self._now -= self._sizes.pop(key)


class MeasureTraining(Callback):
    """Write what a step of training costs.

    The file holds ``step_ms``, the median time of a step in milliseconds without the loading of the batch, and
    ``peak_mib``, the most memory that the tensors of a step take: weights, optimizer, gradients, activations and
    the batch. Steps whose memory is counted are left out of the time, and so is the first one. A value is null
    where the run was too short for it.

    Args:
        path: JSON file.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._times: list[float] = []
        self._steps = 0
        self._start = 0.0
        self._memory = PeakMemory()
        self._counting = ExitStack()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # noqa: ANN401
        """Start the clock, and counting memory at the first of the steps where it is counted."""
        if self._steps == MEASURED[0]:
            self._counting.enter_context(self._memory)
        _wait(pl_module)
        self._start = time.perf_counter()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # noqa: ANN401
        """Stop the clock."""
        _wait(pl_module)
        if self._steps > MEASURED[1]:
            self._times.append(time.perf_counter() - self._start)
        if self._steps == MEASURED[1]:
            self._counting.close()
        self._steps += 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is known so far: a run that is killed after its last checkpoint trains no more."""
        if self._steps and trainer.is_global_zero:
            self._write()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file, unless nothing was trained."""
        self._counting.close()
        if self._steps and trainer.is_global_zero:
            self._write()

    def state_dict(self) -> dict[str, Any]:
        """Give what was measured, for a run that is resumed."""
        return {"times": list(self._times), "steps": self._steps, "peak": self._memory.peak}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was measured before."""
        self._times, self._steps = list(state_dict["times"]), state_dict["steps"]
        self._memory.peak = state_dict["peak"]

    def _write(self) -> None:
        step = round(1e3 * statistics.median(self._times), 2) if self._times else None
        peak = round(self._memory.peak / 2**20, 1) if self._memory.peak else None
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_text(self.path, json.dumps({"step_ms": step, "peak_mib": peak}))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop counting."""
        self._counting.close()


def _wait(module: LightningModule) -> None:
    if module.device.type == "cuda":
        torch.cuda.synchronize(module.device)
