import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from PIL import Image
from video.conftest import bird_box, draw_bird

from kpose.geometry import axis_angle_to_matrix, geodesic_distance, project, random_rotation
from kpose.inference import Predictor
from kpose.structures import Camera
from kpose.video import AssociationTracker, Frame, TemporalSmoothing, Track, Tracker, VideoPredictor
from kpose.video.smoothing import smooth_camera


class Script(Tracker[int]):
    """Say what it was told to."""

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
        assert thing.reconstruction is not None
        assert thing.reconstruction.square == expected.square
        torch.testing.assert_close(thing.reconstruction.camera, expected.camera)


def test_it_is_causal_and_online(predictor: Predictor, frames: list[Frame]) -> None:
    drawn = 0

    def source() -> Iterator[Frame]:
        nonlocal drawn
        for frame in frames:
            drawn += 1
            yield frame

    video = VideoPredictor(predictor, AssociationTracker({1: bird_box(0)}), smoothing=TemporalSmoothing())
    online = []
    for found in video(source()):
        assert drawn == found.frame.number + 1  # nothing is read ahead
        online.append(found)
    short = list(video(frames[:4]))  # later frames change nothing, neither do earlier runs
    for before, after in zip(short, online, strict=False):
        one, other = before.objects[0].reconstruction, after.objects[0].reconstruction
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one.camera, other.camera)


def test_what_cannot_be_seen_is_reported(predictor: Predictor) -> None:
    boxes = [None, (200.0, 10.0, 220.0, 20.0), (95.5, 10.0, 120.0, 20.0), bird_box(0)]
    video = VideoPredictor(predictor, Script([[Track(k, box) for k, box in enumerate(boxes)], []]))
    full, empty = list(video([draw_bird(0), draw_bird(1)]))
    assert [thing.problem for thing in full.objects] == ["hidden", "outside", "small", ""]
    assert [thing.reconstruction is None for thing in full.objects] == [True, True, True, False]
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


def camera(angle: float, scale: float = 1.0) -> Camera:
    turn = axis_angle_to_matrix(torch.tensor([0.0, angle, 0.0]))
    return Camera(torch.tensor(scale), torch.zeros(2), turn)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_cameras_go_the_shortest_way(share: float) -> None:
    found = smooth_camera(camera(0.2, 1.0), camera(1.0, 4.0), share)
    assert geodesic_distance(found.rotation, camera(0.2 + 0.8 * share).rotation) < 1e-3
    assert found.scale.item() == pytest.approx(4**share)
    for rotation in random_rotation((20, 2)).unbind():
        ends = [Camera(torch.tensor(1.0), torch.zeros(2), end) for end in rotation]
        middle = smooth_camera(*ends, share).rotation
        whole = geodesic_distance(*rotation)
        assert geodesic_distance(rotation[0], middle).item() == pytest.approx(share * whole.item(), abs=2e-3)


def test_smoothing_follows_with_its_time_constant(predictor: Predictor) -> None:
    smoothing = TemporalSmoothing(0.2)
    [base] = predictor(draw_bird(0), box=bird_box(0))
    before, after = (replace(base, crop_camera=camera(angle)) for angle in (0.0, 1.0))
    _, last = smoothing(None, before, 0.0)
    for k in range(1, 11):
        found, last = smoothing(last, after, 0.02 * k)
    angle = geodesic_distance(found.crop_camera.rotation, camera(0.0).rotation)
    assert angle.item() == pytest.approx(1 - math.exp(-1), abs=1e-3)  # after one time constant, at any frame rate
    points = project(found.mesh.vertices, found.camera)
    inside = project(found.mesh.vertices, found.crop_camera) / found.crop.scale
    assert torch.allclose(points - points[0], inside - inside[0], atol=1e-3)  # both cameras agree


def test_smoothing_starts_afresh_after_a_gap_and_skips_the_doubtful(predictor: Predictor) -> None:
    smoothing = TemporalSmoothing(0.1)
    [base] = predictor(draw_bird(0), box=bird_box(0))
    _, last = smoothing(None, replace(base, crop_camera=camera(0.0)), 0.0)
    late, _ = smoothing(last, replace(base, crop_camera=camera(1.0)), 0.6)
    assert geodesic_distance(late.crop_camera.rotation, camera(1.0).rotation) < 1e-3
    doubtful, _ = smoothing(last, replace(base, crop_camera=camera(1.0), valid=False), 0.05)
    assert geodesic_distance(doubtful.crop_camera.rotation, camera(0.0).rotation) < 1e-3


@pytest.mark.parametrize("time", [0.0, -1.0, math.inf])
def test_time_constants_are_checked(time: float) -> None:
    with pytest.raises(ValueError, match="positive time constant"):
        TemporalSmoothing(time)


def test_smoothing_calms_a_track(predictor: Predictor, frames: list[Frame]) -> None:
    shaken = [Track(1, tuple(edge + 2.0 * (-1) ** k for edge in bird_box(k))) for k in range(10)]
    moves = []
    for smoothing in (None, TemporalSmoothing(0.3)):
        video = VideoPredictor(predictor, Script([[track] for track in shaken]), smoothing=smoothing)
        turns = [found.objects[0].reconstruction.crop_camera.rotation for found in video(frames)]  # type: ignore[union-attr]
        moves.append(sum(float(geodesic_distance(a, b)) for a, b in itertools.pairwise(turns)))
    assert moves[1] < 0.5 * moves[0]


def test_pictures_without_times_are_taken(predictor: Predictor) -> None:
    video = VideoPredictor(predictor, AssociationTracker({1: bird_box(0)}))
    found = list(video([draw_bird(0), draw_bird(1)]))
    assert [entry.frame.time_s for entry in found] == [0.0, 0.04]
    assert isinstance(found[0].frame.image, Image.Image)
