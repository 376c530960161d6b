"""Training batches in an order that depends on seed and epoch alone, gone on with in the middle of an epoch."""

import os
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from kpose._distributed import num_processes, rank
from kpose.structures import Batch

__all__ = ["TrainingLoader", "default_workers"]

MAX_WORKERS = 8


def default_workers() -> int:
    """Return how many processes load images where it is not said: none where the processor also trains.

    Example:
        >>> 0 <= default_workers() <= 8
        True
    """
    if not torch.cuda.is_available():
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(MAX_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1)) - 1))


class TrainingLoader(DataLoader[Batch]):
    """Loader of whole batches in random order, shared out over the processes of a run.

    All processes together give the batches that one would give. Nothing is drawn from global generators. The state
    is the number of batches that were given, which Lightning keeps in checkpoints.

    Args:
        dataset: Images.
        rows: Those that are trained on.
        batch_size: Images of a batch of one process.
        seed: Of the order.
        views: With more than one, an item is asked for as ``row + view * len(dataset)``, the view drawn at random.
        options: Of `torch.utils.data.DataLoader`.
    """

    sampler: "_Sampler"

    def __init__(
        self,
        dataset: Dataset[Batch],
        rows: Sequence[int],
        batch_size: int,
        *,
        seed: int,
        views: int = 1,
        **options: Any,  # noqa: ANN401
    ) -> None:
        whole = len(rows) >= batch_size * num_processes()
        sampler = _Sampler(rows, seed, views, len(dataset), whole=whole)  # type: ignore[arg-type]
        super().__init__(
            dataset, batch_size, sampler=sampler, drop_last=whole, generator=torch.Generator(), **options
        )
        self._given = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Yield the batches of an epoch, or those of it that are left."""
        assert self.batch_size is not None
        first = self.sampler.start // self.batch_size
        for number, batch in enumerate(super().__iter__(), first + 1):
            self._given = number
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return how many batches of the epoch were given."""
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Leave out the batches that were given."""
        assert self.batch_size is not None
        self.sampler.start = state["batches"] % len(self) * self.batch_size


class _Sampler(DistributedSampler[Batch]):
    """Random order of rows, from a place on in its first epoch."""

    def __init__(self, rows: Sequence[int], seed: int, views: int, count: int, *, whole: bool) -> None:
        # Lightning sets the epoch, also after a resume.
        super().__init__(cast("Dataset[Batch]", rows), num_processes(), rank(), seed=seed, drop_last=whole)
        self.rows = rows
        self.views = views
        self.count = count
        self.start = 0

    def __iter__(self) -> Iterator[Any]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        view = torch.randint(self.views, (len(self.rows),), generator=generator)
        start, self.start = self.start, 0
        for place in islice(cast("Iterator[int]", super().__iter__()), start, None):
            yield self.rows[place] + self.count * int(view[place])
