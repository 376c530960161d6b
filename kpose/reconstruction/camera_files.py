"""Cameras of many images in one small file, found by the names of the images."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kpose._files import parse_json, write_file

__all__ = ["read_cameras", "write_cameras"]

FORMAT = "2"
ENTRIES = ("scale", "translation", "rotation", "score", "order", "crop_scale", "crop_translation")


def write_cameras(path: Path, names: Sequence[str], tensors: dict[str, Tensor]) -> None:
    """Write a table to a safetensors file, whole or not at all."""
    metadata = {"format": FORMAT, "names": json.dumps(list(names))}
    content = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    write_file(path, lambda fresh: fresh.write_bytes(content))


def read_cameras(path: Path) -> tuple[list[str], dict[str, Tensor]]:
    """Read a table: the names of the images, and tensors with one row each."""
    if not path.exists():
        raise FileNotFoundError(f"CameraTable needs a file of cameras; there is no {path}. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise ValueError(f"CameraTable needs a file of cameras; {path} is none: {error}. Replace it.") from error
    if metadata.get("format") != FORMAT or not tensors.keys() >= set(ENTRIES):
        raise ValueError(
            f"CameraTable needs a file of cameras, format {FORMAT}; {path} holds {sorted(tensors)}, format "
            f"{metadata.get('format')}. Search the cameras again."
        )
    names = _names(metadata.get("names", ""))
    fault = "no list of names" if names is None else _fault(tensors, len(names))
    if names is None or fault:
        raise ValueError(f"CameraTable needs a sound file of cameras; {path} has {fault}. Search them again.")
    return names, {name: tensors[name] for name in ENTRIES}


def _names(text: str) -> list[str] | None:
    try:
        names = parse_json(text)
    except ValueError:
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _fault(tensors: dict[str, Tensor], images: int) -> str:
    """Return what is wrong with the tensors of a table; nothing if they belong together."""
    score, order = tensors["score"], tensors["order"]
    cameras = score.shape[1] if score.ndim == 2 else 0
    shapes = {
        "scale": (images, cameras),
        "translation": (images, cameras, 2),
        "rotation": (images, cameras, 3, 3),
        "score": (images, cameras),
        "order": (images, cameras),
        "crop_scale": (images,),
        "crop_translation": (images, 2),
    }
    for name, shape in shapes.items():
        tensor = tensors[name]
        kind = tensor.dtype == torch.int64 if name == "order" else tensor.is_floating_point()
        if tuple(tensor.shape) != shape or 0 in shape or not kind:
            return f"{tensor.dtype} {tuple(tensor.shape)} as {name} of {images} images"
    if not torch.equal(order.sort(-1).values, torch.arange(cameras).expand(images, -1)):
        return "an order that leaves cameras out"
    broken = [name for name in ("scale", "translation", "rotation") if not tensors[name].isfinite().all()]
    return f"numbers that are not finite as {broken[0]}" if broken else ""
