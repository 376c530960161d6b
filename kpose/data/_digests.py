"""What data and weights are told apart by, for results that are kept."""

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kpose.recipe import encode

__all__ = ["describe_data", "digest_tensors"]

# How images are loaded, where rendered ones are kept, and what is scored: no image depends on these.
_UNRELATED = {"batch_size", "cache", "cache_dir", "num_workers", "test_split"}


def describe_data(data: Any) -> dict[str, Any]:  # noqa: ANN401 - any Lightning data module
    """Describe what decides the images of a data module.

    Args:
        data: Data module.

    Returns:
        Plain values: its class, its attributes that are named like arguments of its constructor, but for those
        that say how images are loaded or which are scored (``batch_size``, ``cache``, ``cache_dir``,
        ``num_workers``, ``test_split``), and its ``fingerprint`` of the files, if it has one. An attribute that
        plain values cannot describe counts by its class alone.

    Example:
        >>> from kpose.data import SyntheticBirdsDataModule
        >>> describe_data(SyntheticBirdsDataModule(num_train=8))["num_train"]
        8
    """
    names = {
        name
        for kind in type(data).__mro__
        if "__init__" in vars(kind)
        for name in inspect.signature(vars(kind)["__init__"]).parameters
    }
    found = {name: _plain(getattr(data, name)) for name in sorted(names - _UNRELATED) if name in vars(data)}
    if files := getattr(data, "fingerprint", ""):
        found["fingerprint"] = files
    return {"class": f"{type(data).__module__}.{type(data).__qualname__}", **found}


def digest_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Digest tensors with their names.

    Args:
        tensors: Such as a state dict.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> digest_tensors({"a": torch.zeros(2)}) == digest_tensors({"a": torch.ones(2)})
        False
    """
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _plain(value: object) -> Any:  # noqa: ANN401
    try:
        return encode(value)
    except TypeError:
        return f"{type(value).__module__}.{type(value).__qualname__}"
