import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from PIL import Image
from video.conftest import Reddest, bird_box, draw_bird

from kpose.geometry import geodesic_distance, project
from kpose.inference import Predictor
from kpose.video import Frame, OverlapTracker, TemporalSmoothing, Track, Tracker, VideoPredictor


class Script(Tracker[int]):
    """Return what it was told to."""

    def __init__(self, script: list[list[Track]]) -> None:
        self.script = script

    def start(self) -> int:
        return 0

    def step(self, state: int, frame: Frame) -> tuple[list[Track], int]:
        return self.script[state], state + 1


def test_every_object_is_what_the_predictor_gives_for_its_box(predictor: Predictor, frames: list[Frame]) -> None:
    boxes = [bird_box(0), (50.0, 5.0, 90.0, 60.0)]
    video = VideoPredictor(predictor, Script([[Track(3, boxes[0]), Track(8, boxes[1])]]))
    [found] = list(video(frames[:1]))
    assert [thing.identity for thing in found.objects] == [3, 8]
    for thing, box in zip(found.objects, boxes, strict=True):
        [expected] = predictor(frames[0].image, box=box)
        assert thing.prediction is not None
        assert thing.prediction.square == expected.square
        torch.testing.assert_close(thing.prediction.camera, expected.camera)


def test_it_is_causal_and_online(predictor: Predictor, frames: list[Frame]) -> None:
    drawn = 0

    def source() -> Iterator[Frame]:
        nonlocal drawn
        for frame in frames:
            drawn += 1
            yield frame

    video = VideoPredictor(predictor, OverlapTracker(segmenter=Reddest()), smoothing=TemporalSmoothing())
    online = []
    for found in video(source()):
        assert drawn == found.frame.number + 1  # nothing is read ahead
        online.append(found)
    short = list(video(frames[:4]))  # later frames change nothing, neither do earlier runs
    for before, after in zip(short, online, strict=False):
        one, other = before.objects[0].prediction, after.objects[0].prediction
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one.camera, other.camera)


def test_what_cannot_be_seen_is_reported(predictor: Predictor) -> None:
    boxes = [None, (200.0, 10.0, 220.0, 20.0), (95.5, 10.0, 120.0, 20.0), bird_box(0)]
    video = VideoPredictor(predictor, Script([[Track(k, box) for k, box in enumerate(boxes)], []]))
    full, empty = list(video([draw_bird(0), draw_bird(1)]))
    assert [thing.problem for thing in full.objects] == ["hidden", "outside", "small", ""]
    assert [thing.prediction is None for thing in full.objects] == [True, True, True, False]
    assert empty.objects == ()


def test_a_camera_that_is_not_finite_is_reported(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    [good] = predictor(draw_bird(0), box=bird_box(0))
    bad = replace(good, camera=good.camera._replace(scale=torch.tensor(math.nan)))
    video = VideoPredictor(predictor, Script([[Track(1, bird_box(0))]]))
    monkeypatch.setattr(Predictor, "__call__", lambda *_, **__: [bad])
    [found] = list(video([draw_bird(0)]))
    assert found.objects[0].problem == "failed"


def test_masks_are_not_cut_off_by_the_crop(predictor: Predictor) -> None:
    """A mesh larger than its crop shows in full in the frame."""
    [found] = predictor(draw_bird(0), box=(40.0, 25.0, 56.0, 41.0))
    wide = replace(
        found, camera=found.camera._replace(scale=torch.tensor(40.0), translation=torch.tensor([48.0, 32.0]))
    )
    points = project(wide.mesh.vertices, wide.camera)
    left, _, right, _ = wide.square
    assert points[:, 0].max() - points[:, 0].min() > 1.3 * (right - left)
    columns = wide.mask.amax(0).nonzero()[:, 0]
    assert wide.mask.shape == (64, 96)
    low, high = points[:, 0].clamp(0, 96).aminmax()
    assert columns[0].item() == pytest.approx(low.item(), abs=2)
    assert columns[-1].item() + 1 == pytest.approx(high.item(), abs=2)


def test_smoothing_calms_a_track(predictor: Predictor, frames: list[Frame]) -> None:
    shaken = [Track(1, tuple(edge + 2.0 * (-1) ** k for edge in bird_box(k))) for k in range(10)]
    moves = []
    for smoothing in (None, TemporalSmoothing(0.3)):
        video = VideoPredictor(predictor, Script([[track] for track in shaken]), smoothing=smoothing)
        turns = [found.objects[0].prediction.crop_camera.rotation for found in video(frames)]  # type: ignore[union-attr]
        moves.append(sum(float(geodesic_distance(a, b)) for a, b in itertools.pairwise(turns)))
    assert moves[1] < 0.5 * moves[0]


def test_pictures_without_times_are_taken(predictor: Predictor) -> None:
    video = VideoPredictor(predictor, OverlapTracker(segmenter=Reddest()))
    found = list(video([draw_bird(0), draw_bird(1)]))
    assert [entry.frame.time_s for entry in found] == [0.0, 0.04]
    assert isinstance(found[0].frame.image, Image.Image)
