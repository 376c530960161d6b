"""State with one row for each image: the same in all processes, of any size in a checkpoint."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["RowState", "gather_rows"]


class RowState(nn.Module):
    """Base of modules whose buffers take the sizes that a checkpoint has."""

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:  # noqa: ANN401
        for name, buffer in self._buffers.items():
            saved = state_dict.get(prefix + name)
            if isinstance(saved, Tensor) and buffer is not None and saved.shape != buffer.shape:
                setattr(self, name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *args)


def gather_rows(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Put the rows of all processes one after the other, of process 0 first; their numbers may differ.

    Example:
        >>> gather_rows(torch.tensor([1, 2]))
        (tensor([1, 2]),)
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return tensors
    count = torch.tensor([len(tensors[0])], device=tensors[0].device)
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    return tuple(_gather(tensor.detach().contiguous(), [int(c) for c in counts]) for tensor in tensors)


def _gather(tensor: Tensor, counts: list[int]) -> Tensor:
    padded = torch.cat((tensor, tensor.new_zeros(max(counts) - len(tensor), *tensor.shape[1:])))
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])
