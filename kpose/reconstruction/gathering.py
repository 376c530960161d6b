"""Rows of tensors from all processes of a distributed run, in the same order everywhere."""

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["gather_rows"]


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Put the rows of all processes one after the other.

    Args:
        tensors: Tensors with as many rows each; the number may differ between processes.

    Returns:
        The rows of process 0, then those of process 1, and so on; the tensors themselves without a process group.

    Example:
        >>> gather_rows(torch.tensor([1, 2]))
        (tensor([1, 2]),)
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return tensors
    count = torch.tensor([len(tensors[0])], device=tensors[0].device)
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    most = max(int(c) for c in counts)
    return tuple(_gather(tensor.detach().contiguous(), [int(c) for c in counts], most) for tensor in tensors)


def _gather(tensor: Tensor, counts: list[int], most: int) -> Tensor:
    padded = torch.cat((tensor, tensor.new_zeros(most - len(tensor), *tensor.shape[1:])))
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
