from collections.abc import Iterable
from typing import Any

import pytest
import torch
from PIL import Image
from video.conftest import Reddest, bird_box

from kpose.inference.segmentation import Segment, Segmenter
from kpose.video import AssociationTracker, Frame, Tracker


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


class Colors(Segmenter):
    """Finds every red and every blue square, as if it knew them."""

    def segment(self, image: torch.Tensor) -> list[Segment]:
        red, blue = (image[0] > 0.6) & (image[2] < 0.4), (image[2] > 0.6) & (image[0] < 0.4)
        return [Segment(mask.float(), 0.9) for mask in (red, blue) if mask.any()]


class Salient(Colors):
    recognizes = False


def draw_two(number: int, *, red: bool = True, blue: bool = True) -> Frame:
    """Return a frame in which a red square goes right and a blue one left."""
    picture = Image.new("RGB", (96, 64), (40, 110, 50))
    if red:
        picture.paste((200, 40, 30), (10 + 4 * number, 10, 26 + 4 * number, 24))
    if blue:
        picture.paste((30, 60, 210), (66 - 4 * number, 36, 82 - 4 * number, 52))
    return Frame(number, number / 25, picture)


def follow(tracker: Tracker[Any], frames: Iterable[Frame]) -> list[dict[int, tuple[float, ...] | None]]:
    """Return the boxes of every frame."""
    state, found = tracker.start(), []
    for frame in frames:
        tracks, state = tracker.step(state, frame)
        found.append({track.identity: track.box for track in tracks})
    return found


def test_all_that_a_segmenter_finds_is_followed() -> None:
    tracker = AssociationTracker(segmenter=Colors())
    for number, boxes in enumerate(follow(tracker, map(draw_two, range(8)))):
        assert boxes[1] == pytest.approx((10 + 4 * number, 10, 26 + 4 * number, 24), abs=2)
        assert boxes[2] == pytest.approx((66 - 4 * number, 36, 82 - 4 * number, 52), abs=2)


def test_what_comes_later_is_a_new_object_once_it_stays() -> None:
    # The blue square flickers in frame 1, comes in frame 3, hides in frames 7 and 8 and is the same one in frame 9.
    frames = [draw_two(number, blue=number == 1 or (number >= 3 and number not in (7, 8))) for number in range(11)]
    found = follow(AssociationTracker(segmenter=Colors()), frames)
    assert [sorted(boxes) for boxes in found] == [[1]] * 5 + [[1, 2]] * 6
    assert found[5][2] == pytest.approx((46, 36, 62, 52), abs=2)
    assert found[7][2] is None
    assert found[9][2] == pytest.approx((30, 36, 46, 52), abs=2)
    soon = follow(AssociationTracker(segmenter=Colors(), newcomer_frames=1), frames)
    assert [sorted(boxes) for boxes in soon] == [[1]] + [[1, 2]] * 10


@pytest.mark.parametrize(
    "tracker",
    [
        AssociationTracker(segmenter=Salient()),
        AssociationTracker({1: (10.0, 10.0, 26.0, 24.0)}, segmenter=Colors()),
        AssociationTracker(segmenter=Colors(), max_objects=1),
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
