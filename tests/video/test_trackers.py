"""Trackers: the contract of all, and what each adds to it."""

import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from video.conftest import SIZE, bird_box, draw_bird

from kpose.data import VideoSequence
from kpose.inference.segmentation import Segment, Segmenter
from kpose.video import AssociationTracker, DiskTracker, Frame, LWLTracker, Sam2Tracker, Tracker
from kpose.video.disk import read_mask_folder
from kpose.video.tracker import mask_of_target, mask_to_box


def bird_mask(number: int) -> torch.Tensor:
    return torch.from_numpy(np.asarray(draw_bird(number)).astype(int)[..., 0] > 150)


def disk(tmp_path: Path) -> DiskTracker:
    paths = []
    for number in range(10):
        path = tmp_path / f"{number:05}.png"
        Image.fromarray(bird_mask(number).numpy().astype(np.uint8) * 255).save(path)
        paths.append(path)
    return DiskTracker(VideoSequence("bird", tuple(paths), tuple(paths), {1: "bird"}))


class Reddest(Segmenter):
    def segment(self, image: torch.Tensor) -> list[Segment]:
        mask = ((image[0] > 0.6) & (image[1] < 0.35)).float()
        return [Segment(mask, 0.9), Segment(1 - mask, 0.1)] if mask.any() else []


TRACKERS: dict[str, Callable[[Path], Tracker[Any]]] = {
    "disk": disk,
    "box": lambda _: AssociationTracker({1: bird_box(0)}),
    "mask": lambda _: AssociationTracker({1: bird_mask(0)}),
    "segmenter": lambda _: AssociationTracker(segmenter=Reddest()),
    "segmenter_and_box": lambda _: AssociationTracker({1: bird_box(0)}, segmenter=Reddest()),
}


@pytest.mark.parametrize("name", TRACKERS)
def test_contract(name: str, tmp_path: Path, frames: list[Frame]) -> None:
    tracker = TRACKERS[name](tmp_path)
    states = [tracker.start(), tracker.start()]
    for frame in frames:
        seen = []
        for turn in range(2):  # two videos in turns: the state is the caller's
            tracks, states[turn] = tracker.step(states[turn], frame)
            seen.append(tracks)
        assert [track.identity for track in seen[0]] == [1]
        box, expected = seen[0][0].box, bird_box(frame.number)
        assert box == seen[1][0].box
        assert box == pytest.approx(expected, abs=3)
        mask = seen[0][0].mask
        assert mask is not None
        assert mask.shape == (SIZE[1], SIZE[0])
        assert mask_to_box(mask) == box


@pytest.mark.parametrize("name", ["box", "segmenter"])
def test_a_hidden_object_is_lost_and_found(name: str, tmp_path: Path) -> None:
    tracker = TRACKERS[name](tmp_path)
    state, boxes = tracker.start(), []
    for number in range(12):
        hidden = 4 <= number < 8
        picture = Frame(number, number / 25, draw_bird(number, hidden=hidden))
        [track], state = tracker.step(state, picture)
        boxes.append(track.box)
    assert boxes[4:8] == [None] * 4
    assert boxes[3] == pytest.approx(bird_box(3), abs=3)
    assert boxes[9] == pytest.approx(bird_box(9), abs=3)


def test_two_objects_keep_their_identities() -> None:
    pictures = []
    for number in range(8):
        picture = Image.new("RGB", (96, 64), (40, 110, 50))
        picture.paste((200, 40, 30), (10 + 4 * number, 10, 26 + 4 * number, 24))
        picture.paste((30, 60, 210), (66 - 4 * number, 36, 82 - 4 * number, 52))
        pictures.append(picture)
    tracker = AssociationTracker({4: (66.0, 36.0, 82.0, 52.0), 2: (10.0, 10.0, 26.0, 24.0)})
    state = tracker.start()
    for number, picture in enumerate(pictures):
        tracks, state = tracker.step(state, Frame(number, 0.0, picture))
        assert [track.identity for track in tracks] == [2, 4]
        assert tracks[0].box == pytest.approx((10 + 4 * number, 10, 26 + 4 * number, 24), abs=2)
        assert tracks[1].box == pytest.approx((66 - 4 * number, 36, 82 - 4 * number, 52), abs=2)


def test_one_segment_is_not_two_objects() -> None:
    class One(Segmenter):
        def segment(self, image: torch.Tensor) -> list[Segment]:
            return [Segment((image[0] > 0.6).float(), 1.0)]

    picture = Image.new("RGB", (96, 64), (40, 110, 50))
    picture.paste((200, 40, 30), (10, 10, 26, 24))
    targets = {1: (10.0, 10.0, 26.0, 24.0), 2: (10.0, 10.0, 26.0, 24.0)}
    tracker = AssociationTracker(targets, segmenter=One())
    _, state = tracker.step(tracker.start(), Frame(0, 0.0, picture))
    tracks, _ = tracker.step(state, Frame(1, 0.04, picture))
    assert sum(track.box is not None for track in tracks) == 1


class Colours(Segmenter):
    """Finds every red and every blue thing, as if it knew them."""

    def segment(self, image: torch.Tensor) -> list[Segment]:
        red, blue = (image[0] > 0.6) & (image[2] < 0.4), (image[2] > 0.6) & (image[0] < 0.4)
        return [Segment(mask.float(), 0.9) for mask in (red, blue) if mask.any()]


class Salient(Colours):
    recognizes = False


def draw_two(number: int, *, red: bool = True, blue: bool = True) -> Frame:
    """Give a frame in which a red thing goes right and a blue one left."""
    picture = Image.new("RGB", (96, 64), (40, 110, 50))
    if red:
        picture.paste((200, 40, 30), (10 + 4 * number, 10, 26 + 4 * number, 24))
    if blue:
        picture.paste((30, 60, 210), (66 - 4 * number, 36, 82 - 4 * number, 52))
    return Frame(number, number / 25, picture)


def follow(tracker: Tracker[Any], frames: Iterable[Frame]) -> list[dict[int, tuple[float, ...] | None]]:
    """Give the boxes of every frame."""
    state, found = tracker.start(), []
    for frame in frames:
        tracks, state = tracker.step(state, frame)
        found.append({track.identity: track.box for track in tracks})
    return found


def test_all_that_a_segmenter_finds_is_followed() -> None:
    tracker = AssociationTracker(segmenter=Colours())
    for number, boxes in enumerate(follow(tracker, map(draw_two, range(8)))):
        assert boxes[1] == pytest.approx((10 + 4 * number, 10, 26 + 4 * number, 24), abs=2)
        assert boxes[2] == pytest.approx((66 - 4 * number, 36, 82 - 4 * number, 52), abs=2)


def test_what_comes_later_is_a_new_object_once_it_stays() -> None:
    # The blue thing flickers in frame 1, comes in frame 3, hides in frames 7 and 8 and is the same one in frame 9.
    frames = [draw_two(number, blue=number == 1 or (number >= 3 and number not in (7, 8))) for number in range(11)]
    found = follow(AssociationTracker(segmenter=Colours()), frames)
    assert [sorted(boxes) for boxes in found] == [[1]] * 5 + [[1, 2]] * 6
    assert found[5][2] == pytest.approx((46, 36, 62, 52), abs=2)
    assert found[7][2] is None
    assert found[9][2] == pytest.approx((30, 36, 46, 52), abs=2)
    soon = follow(AssociationTracker(segmenter=Colours(), newcomer_frames=1), frames)
    assert [sorted(boxes) for boxes in soon] == [[1]] + [[1, 2]] * 10


@pytest.mark.parametrize(
    "tracker",
    [
        AssociationTracker(segmenter=Salient()),
        AssociationTracker({1: (10.0, 10.0, 26.0, 24.0)}, segmenter=Colours()),
        AssociationTracker(segmenter=Colours(), max_objects=1),
    ],
    ids=["what stands out", "targets", "max_objects"],
)
def test_no_newcomer_where_none_is_wanted(tracker: AssociationTracker) -> None:
    found = follow(tracker, [draw_two(number, blue=number > 0) for number in range(8)])
    assert [sorted(boxes) for boxes in found] == [[1]] * 8


def test_targets_are_checked(frames: list[Frame]) -> None:
    with pytest.raises(ValueError, match="got neither"):
        AssociationTracker()
    with pytest.raises(ValueError, match="at least 1; got 0 and 16"):
        AssociationTracker(segmenter=Reddest(), newcomer_frames=0)
    tracker = AssociationTracker({1: bird_box(0)})
    _, state = tracker.step(tracker.start(), frames[0])
    with pytest.raises(ValueError, match="frames of one size"):
        tracker.step(state, Frame(1, 0.04, Image.new("RGB", (20, 20))))
    with pytest.raises(ValueError, match="inside the frame"):
        mask_of_target((200.0, 0.0, 220.0, 10.0), (64, 96))
    with pytest.raises(ValueError, match="frame's size"):
        mask_of_target(torch.ones(3, 3), (64, 96))


def test_disk_reports_what_is_not_seen(tmp_path: Path) -> None:
    tracker = disk(tmp_path)
    Image.new("L", SIZE).save(tmp_path / "00002.png")
    state = tracker.start()
    for number in range(3):
        tracks, state = tracker.step(state, Frame(number, 0.0, draw_bird(number)))
    assert tracks[0].identity == 1
    assert tracks[0].box is None
    with pytest.raises(ValueError, match="got number 10"):
        tracker.step(state, Frame(10, 0.4, draw_bird(0)))
    with pytest.raises(ValueError, match="00003"):
        tracker.step(state, Frame(3, 0.1, Image.new("RGB", (20, 20))))
    folder = read_mask_folder(tmp_path)
    assert len(folder) == 10
    assert folder.objects == {1: ""}
    with pytest.raises(FileNotFoundError, match="there are none"):
        read_mask_folder(tmp_path / "missing")


def test_sam2_is_asked_for_by_name_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got none"):
        Sam2Tracker(torch.nn.Linear(1, 1), None, {})
    with pytest.raises((OSError, ModuleNotFoundError)):
        Sam2Tracker.from_pretrained(str(tmp_path), {1: bird_box(0)})


class StandIn(ModuleType):
    """What of pytracking is used: every object is followed by two pixels a frame to the right."""

    weights_are_refused = False

    class TensorList(list):  # type: ignore[type-arg]
        def __getattr__(self, name: str) -> Callable[[], list[Any]]:
            if not hasattr(torch.Tensor, name):
                raise AttributeError(name)
            return lambda: [getattr(thing, name)() for thing in self]

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
