"""LWL, the paper's tracker, through an installed pytracking; nothing is imported before it is asked for.

pytracking is under the GPL: it is no dependency of kpose, and none of its code is here.
"""

import importlib
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kpose.geometry import mask_to_box
from kpose.video.frames import Frame
from kpose.video.tracker import Target, Track, Tracker, mask_of_target

__all__ = ["LWLTracker"]

_MAX_OBJECTS = 254  # identities are bytes there


@dataclass
class _Memory:
    inner: Any = None
    output: Any = None


class LWLTracker(Tracker[_Memory]):
    """Follow objects with LWL.

    Args:
        targets: Box or mask of each object in the first frame, by identity. Beside masks, a box counts as a mask
            that fills it.
        parameters: Name of pytracking's parameters, which name the weights; if not given, ``lwl_ytvos`` where there
            are masks, ``lwl_boxinit`` where there are boxes alone.
        device: Where the networks run; pytracking knows the CPU and the first GPU.

    Raises:
        ModuleNotFoundError: If pytracking is not installed.
        ValueError: If there are no targets, or an identity is not between 1 and 254.

    Source:
        Bhat et al., Learning What to Learn for Video Object Segmentation, ECCV 2020.

    Example:
        Where pytracking and its weights are installed::

            tracker = LWLTracker({1: (38, 77, 198, 193)})  # a box in the first frame
            for found in VideoPredictor(kpose.load("bird"), tracker)(open_frames("bird.mp4")):
                print(found.objects)
    """

    def __init__(
        self, targets: Mapping[int, Target], *, parameters: str | None = None, device: str | torch.device = "cpu"
    ) -> None:
        if not targets or not all(0 < identity <= _MAX_OBJECTS for identity in targets):
            raise ValueError(
                f"LWLTracker needs targets with identities from 1 to {_MAX_OBJECTS}; got {[*targets]}."
            )
        try:
            evaluation: Any = importlib.import_module("pytracking.evaluation.tracker")
            self._wrapper: Any = importlib.import_module("pytracking.evaluation.multi_object_wrapper")
            _hide_special_names(importlib.import_module("pytracking.libs.tensorlist").TensorList)
        except ImportError as error:
            raise ModuleNotFoundError(
                f"LWLTracker needs pytracking, which cannot be imported ({error}). Get it from "
                "github.com/visionml/pytracking (GPL) with its weights, and put it on the path."
            ) from error
        self.targets = dict(targets)
        self._boxes = not any(isinstance(target, Tensor) for target in targets.values())
        usual = "lwl_boxinit" if self._boxes else "lwl_ytvos"
        self._tracker = evaluation.Tracker("lwl", parameters or usual)
        self._use_gpu = torch.device(device).type == "cuda"

    def start(self) -> _Memory:
        """Return the state before the first frame."""
        return _Memory()

    @torch.no_grad()
    def step(self, state: _Memory, frame: Frame) -> tuple[list[Track], _Memory]:
        """Follow the objects into the next frame; see `Tracker.step`.

        Raises:
            RuntimeError: If torch refuses to read the weights, which are pickles that can run code.
        """
        image = np.array(frame.image)
        if state.inner is None:
            size = frame.image.height, frame.image.width
            masks = {identity: mask_of_target(target, size) for identity, target in self.targets.items()}
            inner = self._load()
            output = inner.initialize(image, self._info(masks))
        else:
            inner = state.inner
            output = inner.track(image, {"previous_output": state.output})
        found = torch.from_numpy(np.ascontiguousarray(output["segmentation"]))
        tracks = [Track.of_mask(identity, found == identity) for identity in sorted(self.targets)]
        return tracks, _Memory(inner, OrderedDict(output))

    def _load(self) -> Any:  # noqa: ANN401
        parameters = self._tracker.get_parameters()
        parameters.use_gpu = parameters.net.use_gpu = self._use_gpu
        try:
            return self._wrapper.MultiObjectWrapper(self._tracker.tracker_class, parameters, None, fast_load=True)
        except pickle.UnpicklingError as error:
            raise RuntimeError(
                "LWLTracker needs pytracking's weights, which are pickles that can run code; torch refuses them. "
                "Set TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 if you trust their origin."
            ) from error

    def _info(self, masks: Mapping[int, Tensor]) -> dict[str, Any]:
        """Describe what to follow in pytracking's terms: boxes are left, top, width, height."""
        labels = np.zeros(next(iter(masks.values())).shape, dtype=np.uint8)
        boxes = OrderedDict()
        for identity, mask in masks.items():
            labels[mask.numpy()] = identity
            left, top, right, bottom = mask_to_box(mask) or (0.0, 0.0, 0.0, 0.0)
            boxes[identity] = [left, top, right - left, bottom - top]
        info: dict[str, Any] = {"init_bbox": boxes} if self._boxes else {"init_bbox": boxes, "init_mask": labels}
        return info | {key: [*masks] for key in ("object_ids", "init_object_ids", "sequence_object_ids")}


def _hide_special_names(kind: Any) -> None:  # noqa: ANN401
    """Let torch take pytracking's lists of tensors for lists."""
    # They answer to the names of a tensor, `__torch_function__` too, by which newer versions of torch know one.
    if not hasattr(kind(), "__torch_function__"):
        return
    answer = kind.__getattr__

    def answer_usual_names(tensors: Any, name: str) -> Any:  # noqa: ANN401
        if name.startswith("__"):
            raise AttributeError(name)
        return answer(tensors, name)

    kind.__getattr__ = answer_usual_names
