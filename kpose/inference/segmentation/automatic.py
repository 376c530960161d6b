"""The segmenter that is taken where none is named."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache

from kpose._files import SHIPPED_WEIGHTS
from kpose._messages import one_line
from kpose.inference.segmentation.network import SEGMENTER_CONFIG, MaskSegmenter
from kpose.inference.segmentation.segmenter import Segmenter
from kpose.inference.segmentation.transformers import TransformersSegmenter

__all__ = ["automatic_segmenter"]

_log = logging.getLogger(__name__)

_MODELS = tuple(f"facebook/mask2former-swin-{size}-coco-instance" for size in ("large", "base", "small", "tiny"))
_FILES = ("config.json", "preprocessor_config.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def automatic_segmenter(
    label: str = "bird", *, device: str | torch.device = "cpu", models: Sequence[str] = _MODELS
) -> Segmenter | None:
    """Return what finds the objects of a category without anything being fetched.

    That is the `MaskSegmenter` that comes with kpose, for birds, and for others a model that is in the cache of the
    Hugging Face Hub: ``hf download facebook/mask2former-swin-small-coco-instance`` puts one there. One that is
    there but cannot be used is reported in the log.

    Args:
        label: What to look for, as COCO names it.
        device: Where it runs.
        models: Names on the Hub, the best one first; four Mask2Formers trained on COCO when not given.

    Returns:
        Segmenter; None if there is none for the category.

    Example:
        >>> automatic_segmenter("gearbox", models=[]) is None
        True
    """
    shipped = SHIPPED_WEIGHTS / label
    if (shipped / SEGMENTER_CONFIG).is_file():
        segmenter = MaskSegmenter.load(shipped)
        segmenter.network.to(device)
        return segmenter
    for name in models:
        folder = _cached_folder(name)
        try:
            if folder is not None:
                return TransformersSegmenter(folder, label=label, device=device)
        except (OSError, ValueError, ImportError) as error:  # a file is damaged, or it knows no such label
            _log.warning("%s is in the cache of the Hub but cannot be used: %s", name, one_line(error)[:200])
    return None


def _cached_folder(name: str) -> Path | None:
    """Return the folder of a model whose files are in the cache of the Hub."""
    found = [try_to_load_from_cache(name, file) for file in _FILES]
    weights = [try_to_load_from_cache(name, file) for file in _WEIGHTS]
    config = found[0]
    whole = all(isinstance(file, str) for file in found) and any(isinstance(file, str) for file in weights)
    return Path(config).parent if isinstance(config, str) and whole else None
