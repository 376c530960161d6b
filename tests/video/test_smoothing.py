import math
from dataclasses import replace

import pytest
import torch
from video.conftest import bird_box, draw_bird

from kpose.geometry import axis_angle_to_matrix, geodesic_distance, project, random_rotation
from kpose.inference import Predictor
from kpose.structures import Camera
from kpose.video import TemporalSmoothing
from kpose.video.smoothing import smooth_camera


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


def test_smoothing_starts_again_after_a_gap_and_skips_the_doubtful(predictor: Predictor) -> None:
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
