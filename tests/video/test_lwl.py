import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from video.conftest import bird_box, bird_mask

from kpose.video import Frame, LWLTracker


class StandIn(ModuleType):
    """What of pytracking is used: every object is followed by two pixels a frame to the right."""

    weights_are_refused = False

    class TensorList(list):  # type: ignore[type-arg]
        def __getattr__(self, name: str) -> Callable[[], list[Any]]:
            if not hasattr(torch.Tensor, name):
                raise AttributeError(name)
            return lambda: [getattr(square, name)() for square in self]

    class Tracker:
        tracker_class = "LWL"

        def __init__(self, name: str, parameters: str) -> None:
            assert name == "lwl"
            self.parameters = parameters

        def get_parameters(self) -> SimpleNamespace:
            return SimpleNamespace(use_gpu=True, net=SimpleNamespace(use_gpu=True))

    class MultiObjectWrapper:
        def __init__(self, kind: str, parameters: Any, visdom: None, fast_load: bool) -> None:
            assert kind == "LWL"
            assert not parameters.use_gpu
            assert not parameters.net.use_gpu
            if StandIn.weights_are_refused:
                raise pickle.UnpicklingError("Weights only load failed. This file can still be loaded, ...")

        def initialize(self, image: np.ndarray, info: dict[str, Any]) -> dict[str, Any]:
            assert image.shape == (64, 96, 3)
            assert image.flags.writeable  # else torch.from_numpy warns
            assert info["init_object_ids"] == info["object_ids"] == info["sequence_object_ids"] == [1, 3]
            assert info["init_bbox"][3] == [2.0, 2.0, 4.0, 6.0]  # left, top, width, height
            self.labels = info["init_mask"]
            return {"segmentation": self.labels}

        def track(self, image: np.ndarray, info: dict[str, Any]) -> dict[str, Any]:
            assert isinstance(info["previous_output"], OrderedDict)
            self.labels = np.roll(info["previous_output"]["segmentation"], 2, axis=1)
            return {"segmentation": self.labels}


@pytest.fixture
def pytracking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the stand-in where pytracking would be."""
    for name in ("evaluation.tracker", "evaluation.multi_object_wrapper", "libs.tensorlist"):
        monkeypatch.setitem(sys.modules, f"pytracking.{name}", StandIn(name))
    for name in ("pytracking", "pytracking.evaluation", "pytracking.libs"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


@pytest.mark.usefixtures("pytracking")
def test_lwl_through_a_stand_in(frames: list[Frame]) -> None:
    tracker = LWLTracker({1: bird_mask(0), 3: (2.0, 2.0, 6.0, 8.0)})
    state = tracker.start()
    for frame in frames:
        tracks, state = tracker.step(state, frame)
        assert tracks[0].box == pytest.approx(bird_box(frame.number), abs=1)
    assert [track.identity for track in tracks] == [1, 3]
    assert tracker._tracker.parameters == "lwl_ytvos"
    assert LWLTracker({3: (2.0, 2.0, 6.0, 8.0)})._tracker.parameters == "lwl_boxinit"
    assert LWLTracker({3: (2.0, 2.0, 6.0, 8.0)}, parameters="mine")._tracker.parameters == "mine"


@pytest.mark.usefixtures("pytracking")
def test_torch_takes_pytrackings_lists_for_lists() -> None:
    LWLTracker({1: bird_mask(0)})
    weight = torch.tensor(2.0, requires_grad=True)
    loss, weights = StandIn.TensorList([weight**2]), StandIn.TensorList([weight])
    [gradient] = torch.autograd.grad(loss, weights, StandIn.TensorList([torch.tensor(1.0)]))
    assert gradient == 4
    assert loss.detach() == [4]


@pytest.mark.usefixtures("pytracking")
def test_lwl_says_that_its_weights_are_pickles(monkeypatch: pytest.MonkeyPatch, frames: list[Frame]) -> None:
    monkeypatch.setattr(StandIn, "weights_are_refused", True)
    tracker = LWLTracker({1: bird_mask(0)})
    with pytest.raises(RuntimeError, match="TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1"):
        tracker.step(tracker.start(), frames[0])


def test_lwl_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytracking", None)
    with pytest.raises(ModuleNotFoundError, match="GPL"):
        LWLTracker({1: bird_mask(0)})
    with pytest.raises(ValueError, match="from 1 to 254"):
        LWLTracker({300: bird_mask(0)})
