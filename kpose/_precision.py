"""Precision of geometry, which is at least single whatever precision networks run in."""

import functools

import torch
from torch import Tensor

__all__ = ["common_precision", "widened"]


def common_precision(*tensors: Tensor) -> torch.dtype:
    """Return the precision in which tensors are combined: double where one is, else single."""
    return functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def widened(tensor: Tensor) -> Tensor:
    """Return half precision as single; single and double stay as they are."""
    return tensor.to(common_precision(tensor))
