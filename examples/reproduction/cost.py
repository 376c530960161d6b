"""Measure what a training step of a pose head costs: its time, and the memory of its tensors."""

import statistics
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kpose.network import PoseNetwork
from kpose.structures import Batch


class PeakMemory(TorchDispatchMode):
    """Count the bytes of all tensors that operations touch within the context, and keep the highest count.

    The count does not depend on allocators or on what else the process holds: the same code has the same peak on
    every machine. Memory that an operation takes and returns within itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
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


def step_cost(network: PoseNetwork, batch: Batch, *, steps: int = 9) -> dict[str, float]:
    """Train a head for a few steps on one batch and measure them.

    Args:
        network: Network; its head is changed.
        batch: Batch with ``features`` or ``image`` and what the head is trained on, on the network's device.
        steps: Steps whose time is measured, at least 1. One step before them lets the optimizer build its state,
            and one counts memory.

    Returns:
        ``step_ms``, the median time of a step in milliseconds without loading the batch, and ``peak_mib``, the most
        memory that the tensors of a step take: weights, optimizer, gradients, activations and the batch.
    """
    network.train()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained)

    def step() -> None:
        features = network.backbone.features_of(batch)
        prediction = network.pose(features, network.shapes(features))
        torch.stack(list(network.head.losses(prediction, batch).values())).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        if trained[0].is_cuda:
            torch.cuda.synchronize(trained[0].device)

    step()
    with PeakMemory() as memory:
        step()
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {"step_ms": round(1e3 * statistics.median(times), 2), "peak_mib": round(memory.peak / 2**20, 1)}
