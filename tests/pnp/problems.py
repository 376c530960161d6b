"""Random problems that the tests of the solver's parts share."""

import torch
from torch import Tensor

from kpose.geometry import project, random_rotation
from kpose.pnp.model import Problem
from kpose.structures import Camera

DOUBLE = torch.float64


def problem_and_camera(noise: float = 0.1) -> tuple[Problem, Camera]:
    """Five problems of twelve points and three cameras each, of which the first is the true one."""
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(5, 12, 3, generator=generator, dtype=DOUBLE)
    rotation = random_rotation((5, 3), generator=generator, dtype=DOUBLE)
    scale = 0.5 + torch.rand(5, 3, generator=generator, dtype=DOUBLE)
    translation = torch.randn(5, 3, 2, generator=generator, dtype=DOUBLE)
    image = project(points, Camera(scale[:, 0], translation[:, 0], rotation[:, 0]))
    image = image + noise * torch.randn(image.shape, generator=generator, dtype=DOUBLE)
    weights = torch.rand(5, 12, generator=generator, dtype=DOUBLE)
    return Problem(image, points, weights), Camera(scale, translation, rotation)


def flat_problem(noise: float = 0.1) -> tuple[Problem, Camera]:
    """The same with the points moved into a tilted plane."""
    problem, camera = problem_and_camera(noise)
    flat: Tensor = problem.object.clone()
    flat[..., 2] = 0.3 * flat[..., 0] + 1
    return problem._replace(object=flat), camera
