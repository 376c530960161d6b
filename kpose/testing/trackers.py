"""The contract of trackers."""

from collections.abc import Sequence
from typing import Any

import torch

from kpose.testing.expect import Expect, expecting
from kpose.video import Frame, Track, Tracker

__all__ = ["check_tracker"]


def check_tracker(tracker: Tracker[Any], frames: Sequence[Frame]) -> None:
    """Check that a tracker keeps the contract of `Tracker`.

    Every object that has been seen has one track in each later frame, in the order of identities; boxes have an
    area, masks the size of the frame; all memory is in the state, so that two videos followed in turns give what
    each gives alone.

    Args:
        tracker: Tracker.
        frames: Frames that it can follow, in order; it is given them twice, in turns.

    Raises:
        AssertionError: If the tracker breaks a rule; the message names it.

    Example:
        >>> from PIL import Image
        >>> class Still(Tracker[int]):
        ...     def start(self):
        ...         return 0
        ...     def step(self, state, frame):
        ...         return [Track(1, (0.0, 0.0, 8.0, 8.0))], state + 1
        >>> check_tracker(Still(), [Frame(number, 0.0, Image.new("RGB", (9, 9))) for number in range(3)])
    """
    expect = expecting("A tracker")
    first, second = tracker.start(), tracker.start()
    seen: list[int] = []
    for frame in frames:
        tracks, first = tracker.step(first, frame)
        _check_tracks(expect, tracks, frame)
        identities = [track.identity for track in tracks]
        missing = sorted(set(seen) - set(identities))
        expect(not missing, f"a track in every frame for each object that has been seen; {missing} are missing")
        seen = identities
        again, second = tracker.step(second, frame)
        expect(
            len(tracks) == len(again) and all(map(_equal, tracks, again)),
            "all that it remembers in its state: two videos followed in turns differ from one alone",
        )


def _check_tracks(expect: Expect, tracks: Sequence[Track], frame: Frame) -> None:
    identities = [track.identity for track in tracks]
    expect(identities == sorted(set(identities)), f"each identity once, in order; got {identities}")
    size = (frame.image.height, frame.image.width)
    for track in tracks:
        if track.mask is not None:
            expect(track.mask.dtype == torch.bool, f"masks of booleans; got {track.mask.dtype}")
            shape = tuple(track.mask.shape)
            expect(shape == size, f"masks of the size of the frame, {size}; got {shape}")
        if track.box is not None:
            left, top, right, bottom = track.box
            expect(left < right and top < bottom, f"boxes with an area, or none; got {track.box}")


def _equal(first: Track, second: Track) -> bool:
    if (first.mask is None) != (second.mask is None) or first[:2] != second[:2]:
        return False
    return first.mask is None or second.mask is None or torch.equal(first.mask, second.mask)
