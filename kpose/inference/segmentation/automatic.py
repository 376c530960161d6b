"""The best segmenter that this machine has: a trained model where there are weights, else salience."""

import logging
from collections.abc import Sequence
from pathlib import Path
from threading import Lock

import torch
from huggingface_hub import try_to_load_from_cache
from jaxtyping import Float
from torch import Tensor

from kpose._messages import one_line
from kpose.inference.segmentation.saliency import SaliencySegmenter
from kpose.inference.segmentation.segmenter import Segment, Segmenter
from kpose.inference.segmentation.transformers import TransformersSegmenter

__all__ = ["AutomaticSegmenter"]

_log = logging.getLogger(__name__)

_MODELS = tuple(f"facebook/mask2former-swin-{size}-coco-instance" for size in ("large", "base", "small", "tiny"))
_FILES = ("config.json", "preprocessor_config.json")
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class AutomaticSegmenter(Segmenter):
    """Find objects by a trained model whose weights are on this machine, or else the salient one.

    The models are looked for in the cache of the Hugging Face Hub, the first that is there is taken, and nothing
    is ever fetched: ``hf download facebook/mask2former-swin-small-coco-instance`` puts one there. In a picture in
    which the model finds nothing, and without any model, it is the `SaliencySegmenter` that looks.

    Args:
        label: What to look for, as the models name it.
        device: Where the model runs.
        models: Names on the Hub, the best one first; four Mask2Formers trained on COCO when not given.

    Attributes:
        model_name: The model whose weights are here; None if there is none.

    Example:
        >>> picture = torch.full((3, 60, 80), 0.2)
        >>> picture[0, 20:40, 30:60] = 0.9
        >>> [segment] = AutomaticSegmenter(models=[]).segment(picture)
        >>> type(segment.found_by).__name__
        'SaliencySegmenter'
    """

    def __init__(
        self, *, label: str = "bird", device: str | torch.device = "cpu", models: Sequence[str] = _MODELS
    ) -> None:
        self.label = label
        self.device = torch.device(device)
        folders = ((name, _cached_folder(name)) for name in models)
        found = next(((name, folder) for name, folder in folders if folder is not None), None)
        self.model_name: str | None = found[0] if found else None
        self._folder: Path | None = found[1] if found else None
        self._salience = SaliencySegmenter()
        self._model: Segmenter | None = None
        self._lock = Lock()

    @torch.no_grad()
    def segment(self, image: Float[Tensor, "3 H W"]) -> list[Segment]:
        """Find the objects; see `Segmenter.segment`. Each holds what has found it."""
        for segmenter in (self._load(), self._salience):
            if segmenter is not None and (found := segmenter.segment(image)):
                return [segment._replace(found_by=segmenter) for segment in found]
        return []

    def _load(self) -> Segmenter | None:
        """Return the model, which is loaded when it is first needed."""
        with self._lock:
            if self._folder is not None and self._model is None:
                try:
                    self._model = TransformersSegmenter(self._folder, label=self.label, device=self.device)
                except (OSError, ValueError, ImportError) as error:  # a file is damaged, or a library missing
                    reason = one_line(error)[:200]
                    _log.warning("%s is in the cache of the Hub but cannot be used: %s", self.model_name, reason)
                    self._folder = None
            return self._model


def _cached_folder(name: str) -> Path | None:
    """Return the folder of a model whose files are in the cache of the Hub."""
    found = [try_to_load_from_cache(name, file) for file in _FILES]
    weights = [try_to_load_from_cache(name, file) for file in _WEIGHTS]
    config = found[0]
    whole = all(isinstance(file, str) for file in found) and any(isinstance(file, str) for file in weights)
    return Path(config).parent if isinstance(config, str) and whole else None
