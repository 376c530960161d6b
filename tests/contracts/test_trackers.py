"""The contract of trackers, for all of ours; SAM 2 is tiny and untrained, LWL a stand-in."""

from pathlib import Path
from typing import Any

import pytest
import torch
from video.conftest import Reddest, bird_box, bird_mask, draw_bird, write_masks
from video.test_lwl import pytracking  # noqa: F401 - a fixture

from kpose.testing import check_tracker
from kpose.video import DiskTracker, Frame, LWLTracker, OverlapTracker, Sam2Tracker, Track, Tracker

FRAMES = [Frame(number, number / 25, draw_bird(number, hidden=number in (5, 6))) for number in range(10)]


def test_overlap_follows_targets() -> None:
    check_tracker(OverlapTracker({1: bird_mask(0), 4: (2.0, 2.0, 6.0, 8.0)}, segmenter=Reddest()), FRAMES)


def test_overlap_follows_what_is_found() -> None:
    check_tracker(OverlapTracker(segmenter=Reddest()), FRAMES)


def test_disk(tmp_path: Path) -> None:
    check_tracker(DiskTracker(write_masks(tmp_path)), FRAMES)


def test_sam2() -> None:
    pytest.importorskip("transformers", minversion="4.56", reason="this transformers has no SAM 2")
    from video.test_sam2 import Processor, tiny_model

    check_tracker(Sam2Tracker(tiny_model(), Processor(), {1: bird_box(0), 4: bird_mask(0)}), FRAMES[:4])


@pytest.mark.usefixtures("pytracking")
def test_lwl() -> None:
    check_tracker(LWLTracker({1: bird_mask(0), 3: (2.0, 2.0, 6.0, 8.0)}), FRAMES)


class Still(Tracker[int]):
    """Follows one box; what it does wrong in some frame is its subclasses' business."""

    def start(self) -> int:
        return 0

    def step(self, state: int, frame: Frame) -> tuple[list[Track], int]:
        return self.tracks(state, frame), state + 1

    def tracks(self, state: int, frame: Frame) -> list[Track]:
        return [Track(1, (0.0, 0.0, 8.0, 8.0))]


class Forgets(Still):
    def tracks(self, state: int, frame: Frame) -> list[Track]:
        return super().tracks(state, frame) if state < 2 else []


class Doubles(Still):
    def tracks(self, state: int, frame: Frame) -> list[Track]:
        return 2 * super().tracks(state, frame)


class Crops(Still):
    def tracks(self, state: int, frame: Frame) -> list[Track]:
        return [Track.of_mask(1, torch.ones(8, 8, dtype=torch.bool))]


class Remembers(Still):
    """Counts frames by itself."""

    count = 0

    def tracks(self, state: int, frame: Frame) -> list[Track]:
        self.count += 1
        return [Track(1, (0.0, 0.0, 1.0 + self.count, 8.0))]


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Forgets, "a track in every frame for each object that has been seen"),
        (Doubles, "each identity once, in order"),
        (Crops, "masks of the size of the frame"),
        (Remembers, "all that it remembers in its state"),
    ],
)
def test_broken_trackers_are_found_out(kind: Any, rule: str) -> None:
    check_tracker(Still(), FRAMES)
    with pytest.raises(AssertionError, match=rule):
        check_tracker(kind(), FRAMES)
