import math

import pytest
import torch

from kpose.geometry import axis_angle_to_matrix, geodesic_distance, viewpoint_to_matrix
from kpose.reconstruction import ViewpointGrid
from kpose.reconstruction.viewpoint_grid import turn_cameras
from kpose.structures import Camera


def test_the_grid_is_that_of_ucmr():
    rotations = ViewpointGrid().rotations()
    assert rotations.shape == (40, 3, 3)
    for azimuth in range(8):
        for place, elevation in enumerate((-60, -30, 0, 30, 60)):
            angles = [torch.tensor(math.radians(a)) for a in (45.0 * azimuth, float(elevation), 0.0)]
            torch.testing.assert_close(rotations[azimuth * 5 + place], viewpoint_to_matrix(*angles))


def test_neighbors_of_the_grid_are_thirty_degrees_apart():
    rotations = ViewpointGrid().rotations().double()
    angles = geodesic_distance(
        rotations[:, None].expand(40, 40, 3, 3), rotations.expand(40, 40, 3, 3)
    ) + 10 * torch.eye(40)
    assert math.degrees(angles.min().item()) == pytest.approx(30, abs=1e-4)


def test_one_elevation_looks_from_the_horizon():
    rotations = ViewpointGrid(azimuths=3, elevations=1).rotations()
    up = rotations @ torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(up, torch.tensor([0.0, -1.0, 0.0]).expand(3, 3), atol=1e-6, rtol=0)


def test_turns_are_about_the_axes_of_the_image_and_bounded():
    base = Camera(torch.tensor([0.8]), torch.zeros(1, 2), ViewpointGrid().rotations()[7:8])
    ranges = torch.tensor([0.5, 0.4, 1.0])
    residuals = torch.tensor([[0.1, 0.2, -0.3, 0.4, -0.5, 0.6]])
    turned = turn_cameras(base, residuals, ranges, 0.7)
    azimuth, elevation, roll = (torch.tanh(0.7 * residuals[0, 3:]) * ranges).tolist()
    turn = (
        axis_angle_to_matrix(torch.tensor([0.0, 0.0, roll]))
        @ axis_angle_to_matrix(torch.tensor([elevation, 0.0, 0.0]))
        @ axis_angle_to_matrix(torch.tensor([0.0, azimuth, 0.0]))
    )
    torch.testing.assert_close(turned.rotation[0], turn @ base.rotation[0])
    torch.testing.assert_close(turned.scale, torch.tensor([0.9]))
    torch.testing.assert_close(turned.translation, torch.tensor([[0.2, -0.3]]))
    far = turn_cameras(base, torch.tensor([[0.0, 0, 0, 0, 1e4, 0]]), ranges, 1.0)
    assert geodesic_distance(far.rotation, base.rotation).item() == pytest.approx(0.4, abs=1e-5)


def test_scales_stay_positive():
    base = Camera(torch.tensor(0.8), torch.zeros(2), torch.eye(3))
    shrunk = turn_cameras(base, torch.tensor([-5.0, 0, 0, 0, 0, 0]), torch.ones(3), 1.0)
    assert shrunk.scale > 0
