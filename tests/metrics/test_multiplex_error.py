import math

import torch

from kpose.geometry import axis_angle_to_matrix
from kpose.metrics._multiplex_error import multiplex_error


def about_z(*degrees: float) -> torch.Tensor:
    angles = torch.tensor([math.radians(d) for d in degrees])
    return axis_angle_to_matrix(torch.stack((0 * angles, 0 * angles, angles), -1))


def test_errors_are_those_of_the_best_by_loss_and_of_the_best_there_is():
    rotations = about_z(100, 50, 40, 20, 30, 5).expand(2, 6, 3, 3)
    losses = torch.tensor([[0.5, 0.1, 0.2, 0.3, 0.4, 0.6], [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]])
    errors = multiplex_error(rotations, losses, torch.eye(3).expand(2, 3, 3))
    torch.testing.assert_close(errors["best_deg"], torch.tensor([50.0, 100.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(errors["top4_deg"], torch.tensor([20.0, 20.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(errors["best_of_all_deg"], torch.tensor([5.0, 5.0]), atol=1e-3, rtol=0)
