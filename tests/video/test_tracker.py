"""The contract of all trackers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from video.conftest import SIZE, Reddest, bird_box, bird_mask, draw_bird, write_masks

from kpose.geometry import mask_to_box
from kpose.video import DiskTracker, Frame, OverlapTracker, Track, Tracker
from kpose.video.tracker import mask_of_target

TRACKERS: dict[str, Callable[[Path], Tracker[Any]]] = {
    "disk": lambda folder: DiskTracker(write_masks(folder)),
    "box": lambda _: OverlapTracker({1: bird_box(0)}, segmenter=Reddest()),
    "mask": lambda _: OverlapTracker({1: bird_mask(0)}, segmenter=Reddest()),
    "found": lambda _: OverlapTracker(segmenter=Reddest()),
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


@pytest.mark.parametrize("name", ["box", "found"])
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


def test_pixels_of_a_target() -> None:
    assert mask_of_target((-3.0, 1.0, 2.0, 3.0), (4, 5)).nonzero().tolist() == [[1, 0], [1, 1], [2, 0], [2, 1]]
    assert mask_of_target(torch.eye(3), (3, 3)).equal(torch.eye(3) > 0)
    with pytest.raises(ValueError, match="inside the frame"):
        mask_of_target((200.0, 0.0, 220.0, 10.0), (64, 96))
    with pytest.raises(ValueError, match="frame's size"):
        mask_of_target(torch.ones(3, 3), (64, 96))


def test_a_track_of_an_empty_mask_has_no_box() -> None:
    assert Track.of_mask(3, torch.zeros(4, 4, dtype=torch.bool)).box is None
