from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
import torch
from PIL import Image
from video.conftest import Reddest, bird_box

from kpose.inference.segmentation import Segment, Segmenter
from kpose.video import Frame, OverlapTracker, Tracker

Box = tuple[float, float, float, float]
RED, BLUE = (200, 40, 30), (30, 60, 210)


class Colors(Segmenter):
    """Finds what is red and what is blue, in this order, as if it knew them."""

    def segment(self, image: torch.Tensor) -> list[Segment]:
        masks = [image[channel] > 0.6 for channel in (0, 2)]
        return [Segment(mask.float(), 0.9) for mask in masks if mask.any()]


def draw(boxes: Mapping[tuple[int, int, int], Sequence[float]], size: tuple[int, int] = (96, 64)) -> Image.Image:
    """Draw boxes of some colors on a green ground, the last one in front."""
    picture = Image.new("RGB", size, (40, 110, 50))
    for color, box in boxes.items():
        picture.paste(color, tuple(map(int, box)))
    return picture


def follow(tracker: Tracker[Any], pictures: Iterable[Image.Image]) -> list[dict[int, Box | None]]:
    """Return the boxes of every frame."""
    state, found = tracker.start(), []
    for number, picture in enumerate(pictures):
        tracks, state = tracker.step(state, Frame(number, number / 25, picture))
        found.append({track.identity: track.box for track in tracks})
    return found


def red(number: int) -> Box:
    return 10.0 + 4 * number, 10.0, 26.0 + 4 * number, 24.0


def blue(number: int) -> Box:
    return 66.0 - 4 * number, 36.0, 82.0 - 4 * number, 52.0


def draw_two(number: int, *, with_red: bool = True, with_blue: bool = True) -> Image.Image:
    """Draw a red box that goes right and a blue one that goes left below."""
    shown = {RED: (with_red, red(number)), BLUE: (with_blue, blue(number))}
    return draw({color: box for color, (visible, box) in shown.items() if visible})


def test_crossing_objects_keep_their_identities() -> None:
    class Shuffled(Colors):
        """Gives the segments in another order when the boxes have passed each other."""

        def segment(self, image: torch.Tensor) -> list[Segment]:
            found = super().segment(image)
            return found[::-1] if found[0].box > found[1].box else found  # type: ignore[operator]

    boxes = [{RED: (10 + 3 * k, 16, 30 + 3 * k, 32), BLUE: (60 - 3 * k, 26, 80 - 3 * k, 42)} for k in range(18)]
    found = follow(OverlapTracker(segmenter=Shuffled()), map(draw, boxes))
    assert found[0][1] == boxes[0][RED]
    for before, now in zip(boxes, found, strict=True):
        assert now[2] == before[BLUE]
        assert now[1] is not None
        assert now[1][:2] == before[RED][:2]  # its other corner may be covered


def test_the_best_overlap_is_linked_first() -> None:
    """Blue goes to the left, and overlaps where red was by more than red itself."""
    boxes = [
        {RED: (10, 10, 30, 30), BLUE: (28, 10, 48, 30)},
        {RED: (0, 10, 14, 30), BLUE: (24, 10, 44, 30)},
    ]
    found = follow(OverlapTracker(segmenter=Colors()), map(draw, boxes))
    assert found[1] == {1: boxes[1][RED], 2: boxes[1][BLUE]}


def test_a_box_that_jumps_is_followed_by_its_grown_box() -> None:
    boxes = [{RED: (10, 10, 20, 20)}, {RED: (24, 14, 34, 24)}, {RED: (80, 50, 90, 60)}]
    assert follow(OverlapTracker(segmenter=Colors()), map(draw, boxes)) == [
        {1: (10, 10, 20, 20)}, {1: (24, 14, 34, 24)}, {1: None},
    ]  # fmt: skip


def test_a_hidden_object_is_found_again_where_it_was_lost() -> None:
    near, large, far = (14, 44, 24, 54), (0, 0, 96, 64), (80, 4, 90, 14)
    tracker = OverlapTracker({3: (4.0, 44.0, 14.0, 54.0)}, segmenter=Colors())

    def end(gap: int, box: Sequence[float]) -> Box | None:
        pictures = [draw({RED: (4, 44, 14, 54)}), *[draw({})] * gap, draw({RED: box})]
        found = follow(tracker, pictures)
        assert found[1:-1] == [{3: None}] * gap
        return found[-1][3]

    assert end(4, near) == near
    assert end(4, large) is None
    assert end(4, far) is None
    assert end(40, far) == far  # it had the time to go there


def test_a_lost_target_is_not_its_neighbor() -> None:
    """The blue box was there beside the red one, which is lost for some frames."""
    both = {RED: (10, 10, 26, 24), BLUE: (28, 10, 44, 24)}
    pictures = [draw({BLUE: both[BLUE]} if number in (2, 3, 4) else both) for number in range(8)]
    found = follow(OverlapTracker({1: (10.0, 10.0, 26.0, 24.0)}, segmenter=Colors()), pictures)
    assert [boxes[1] for boxes in found] == [(10, 10, 26, 24)] * 2 + [None] * 3 + [(10, 10, 26, 24)] * 3


def test_a_lost_object_does_not_take_the_segment_of_another() -> None:
    pictures = [draw_two(number, with_blue=number < 2) for number in range(6)]
    found = follow(OverlapTracker(segmenter=Colors()), pictures)
    assert [boxes[1] for boxes in found] == [red(number) for number in range(6)]
    assert [boxes[2] for boxes in found[2:]] == [None] * 4


def test_what_comes_later_is_a_new_object_once_it_stays() -> None:
    # The blue box flickers in frame 1, comes in frame 3, hides in frames 7 and 8 and is the same one in frame 9.
    there = (1, 3, 4, 5, 6, 9, 10)
    pictures = [draw_two(number, with_blue=number in there) for number in range(11)]
    found = follow(OverlapTracker(segmenter=Colors()), pictures)
    assert [sorted(boxes) for boxes in found] == [[1]] * 5 + [[1, 2]] * 6
    assert [boxes[2] for boxes in found[5:]] == [blue(5), blue(6), None, None, blue(9), blue(10)]
    soon = follow(OverlapTracker(segmenter=Colors(), newcomer_frames=1), pictures)
    assert [sorted(boxes) for boxes in soon] == [[1]] + [[1, 2]] * 10


@pytest.mark.parametrize(
    "tracker",
    [
        OverlapTracker({1: red(0)}, segmenter=Colors()),
        OverlapTracker(segmenter=Colors(), max_objects=1),
    ],
    ids=["targets", "max_objects"],
)
def test_no_newcomer_where_none_is_wanted(tracker: OverlapTracker) -> None:
    found = follow(tracker, [draw_two(number, with_blue=number > 0) for number in range(8)])
    assert [sorted(boxes) for boxes in found] == [[1]] * 8


def test_the_first_frame_has_no_more_than_the_most_objects() -> None:
    assert sorted(follow(OverlapTracker(segmenter=Colors(), max_objects=1), [draw_two(0)])[0]) == [1]
    assert sorted(follow(OverlapTracker(segmenter=Colors(), max_objects=2), [draw_two(0)])[0]) == [1, 2]


def test_frames_in_which_nothing_is_found() -> None:
    tracker = OverlapTracker(segmenter=Colors())
    found = follow(tracker, [draw({}), draw_two(1), draw({}), draw_two(3)])
    assert found == [{}, {1: red(1), 2: blue(1)}, {1: None, 2: None}, {1: red(3), 2: blue(3)}]


def test_targets_are_the_segments_that_overlap_them_best() -> None:
    mask = torch.zeros(64, 96)
    mask[38:50, 68:80] = 1
    targets = {5: mask, 2: (8.0, 8.0, 25.0, 25.0)}
    found = follow(OverlapTracker(targets, segmenter=Colors()), map(draw_two, range(8)))
    assert found == [{2: red(number), 5: blue(number)} for number in range(8)]


def test_a_target_that_no_segment_overlaps_is_its_own_mask() -> None:
    mask = torch.zeros(64, 96)
    mask[30:40, 70:90] = 1
    tracker = OverlapTracker({1: (10.0, 8.0, 30.0, 28.0), 2: mask}, segmenter=Colors())
    found = follow(tracker, [draw({}), draw({RED: (12, 10, 28, 26)})])
    assert found == [{1: (10, 8, 30, 28), 2: (70, 30, 90, 40)}, {1: (12, 10, 28, 26), 2: None}]


def test_one_segment_is_not_two_objects() -> None:
    tracker = OverlapTracker({1: red(0), 2: red(0)}, segmenter=Colors())
    found = follow(tracker, [draw({RED: red(0)})] * 2)
    assert sum(box is not None for box in found[1].values()) == 1


def test_segments_that_cover_each_other_or_are_doubtful_are_one_object() -> None:
    class Twice(Colors):
        def segment(self, image: torch.Tensor) -> list[Segment]:
            [found] = super().segment(image)
            return [found, found._replace(score=0.8), Segment(1 - found.mask, 0.3)]

    found = follow(OverlapTracker(segmenter=Twice(), newcomer_frames=1), [draw({RED: red(0)})] * 3)
    assert found == [{1: red(0)}] * 3


def test_large_frames_have_masks_of_their_size() -> None:
    box = (300, 200, 700, 500)
    tracker = OverlapTracker(segmenter=Colors())
    [track], _ = tracker.step(tracker.start(), Frame(0, 0.0, draw({RED: box}, (1280, 720))))
    assert track.mask is not None
    assert track.mask.shape == (720, 1280)
    assert track.box == pytest.approx(box, abs=3)


def test_wrong_input_is_refused(frames: list[Frame]) -> None:
    with pytest.raises(ValueError, match=r"above 0; got \(0, 16\)"):
        OverlapTracker(segmenter=Reddest(), newcomer_frames=0)
    tracker = OverlapTracker({1: bird_box(0)}, segmenter=Reddest())
    _, state = tracker.step(tracker.start(), frames[0])
    with pytest.raises(ValueError, match=r"frames of one size; got \(20, 30\) after \(64, 96\)") as error:
        tracker.step(state, Frame(1, 0.04, Image.new("RGB", (30, 20))))
    assert "\n" not in str(error.value)
