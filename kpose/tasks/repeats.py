"""Images that a distributed sampler gives twice, so that all processes have as many batches."""

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only
from torch.utils.data import DistributedSampler

from kpose.structures import Batch

__all__ = ["without_repeats"]


def without_repeats(batch: Batch, batch_idx: int, loader: Any) -> Batch | None:  # noqa: ANN401 - of a trainer
    """Return the images of an evaluated batch that no other process scores, or None if there are none.

    Images are repeated by a loader of whole batches whose distributed sampler does not shuffle, and by no other. A
    process without any image of its own, as there are fewer images than processes, keeps what it has: scores need
    one from each.
    """
    sampler = getattr(loader, "sampler", None)
    if not isinstance(sampler, DistributedSampler) or loader.batch_size is None or sampler.shuffle:
        return batch
    own = len(range(sampler.rank, len(sampler.dataset), sampler.num_replicas))  # type: ignore[arg-type]
    left = own - batch_idx * loader.batch_size
    if own == 0 or left >= loader.batch_size:
        return batch
    if left <= 0:
        return None
    kept: Batch = tree_map_only(Tensor, lambda part: part[:left], batch)
    return kept
