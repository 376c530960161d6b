"""Checkpoints of Lightning as tensors and plain values, without running what they hold."""

import pickle
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

__all__ = ["CONFIG_FILE", "READ_ERRORS", "WEIGHTS_FILE", "network_of_checkpoint", "read_checkpoint"]

CONFIG_FILE = "config.json"
"""Settings, in the folder of a saved network."""
WEIGHTS_FILE = "model.safetensors"
"""Weights, in that folder."""

READ_ERRORS = (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError, ValueError, LookupError)
"""What reading a damaged file of weights raises."""


def read_checkpoint(path: str | PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint of Lightning as tensors and plain values, running nothing of it.

    Raises `FileNotFoundError` or `PermissionError`, or `ValueError` if it is damaged or none; one line says which.

    Example:
        >>> path = getfixture("tmp_path") / "run.ckpt"
        >>> torch.save({"state_dict": {"weight": torch.ones(2)}, "epoch": 3}, path)
        >>> read_checkpoint(path)["epoch"]
        3
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"A checkpoint is a file; {path} is a folder. Name the .ckpt in it, or load it as a folder."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}. Train one by `kpose fit`.")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:  # torch's own text explains how to run what the file holds
        raise ValueError(
            f"{path} holds more than tensors and plain values, or is damaged; nothing of it was run. Train it "
            "again."
        ) from error
    except PermissionError:
        raise
    except READ_ERRORS as error:
        raise ValueError(
            f"{path} is damaged, cut short or no checkpoint. Copy it again, or train it again."
        ) from error
    if not isinstance(contents, dict) or not _are_tensors(contents.get("state_dict")):
        raise ValueError(f"{path} is no checkpoint of a training run. Give a file that `kpose fit` has written.")
    return contents


def network_of_checkpoint(
    path: str | PathLike[str], contents: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return recipe and weights of the network in a checkpoint, or raise `ValueError` if there is none.

    Example:
        >>> state = {"network.faces": torch.ones(2), "loss.scale": torch.ones(1)}
        >>> contents = {"recipe": {"format": 1}, "state_dict": state}
        >>> recipe, weights = network_of_checkpoint("run.ckpt", contents)
        >>> list(weights)
        ['faces']
    """
    recipe = contents.get("recipe")
    if not isinstance(recipe, dict):
        raise ValueError(
            f"A network is read from a checkpoint of kpose.tasks.PoseEstimator; {path} is another, or of an "
            "older kpose."
        )
    weights = contents["state_dict"].items()
    return recipe, {k.removeprefix("network."): v for k, v in weights if k.startswith("network.")}


def _are_tensors(weights: object) -> bool:
    return isinstance(weights, dict) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()
    )
