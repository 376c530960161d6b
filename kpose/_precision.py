"""Precision: of geometry, at least single whatever networks run in, and what a device computes fastest in."""

import functools
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["common_precision", "fast_autocast", "has_bfloat16", "widened"]


def common_precision(*tensors: Tensor) -> torch.dtype:
    """Return the precision in which tensors are combined: double where one is, else single."""
    return functools.reduce(torch.promote_types, (tensor.dtype for tensor in tensors), torch.float32)


def widened(tensor: Tensor) -> Tensor:
    """Return half precision as single; single and double stay as they are."""
    return tensor.to(common_precision(tensor))


def has_bfloat16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16.

    Without them (a processor with AVX2 alone) a step in bfloat16 takes several times as long as in float32.

    Example:
        >>> has_bfloat16(torch.device("meta"))
        False
    """
    if device.type == "cpu":
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in torch 2.6
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def fast_autocast(network: nn.Module) -> AbstractContextManager[Any]:
    """Return the context in which a network predicts fastest.

    It is bfloat16 for weights in float32 on a device that computes in it; other weights are left as they are, since
    layers refuse inputs and weights of different half precisions.
    """
    weight = next(network.parameters())
    able = weight.dtype == torch.float32 and has_bfloat16(weight.device)
    return torch.autocast(weight.device.type, torch.bfloat16) if able else nullcontext()
