"""Random numbers, shapes and cameras of synthetic bird pictures.

Numbers follow the structure-from-motion cameras of CUB's training birds: two peaks of azimuth where birds are seen
from the side, a body held about 40° head-up, and about 15° of spread in the elevation and roll of what is left.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.geometry import axis_angle_to_matrix, procrustes, project, viewpoint_to_matrix
from kpose.structures import Camera, Template

__all__ = ["Draws", "random_cameras", "random_shapes"]

Shapes = Float[Tensor, "batch V 3"]
Point = Float[Tensor, "3"]
Parts = dict[str, Point]
_PITCH_DEG = (40.0, 14.0)  # mean and spread of the body's head-up tilt
_ELEVATION_SD_DEG = 15.0
_ROLL_SD_DEG = 15.0
_SIDE_SHARE = 0.55  # of the azimuths drawn near the side views, the others uniformly
_SIDE_DEG = (80.0, 35.0)
_FILL = (0.62, 0.92)  # longest side of the bird's box over the side of the picture


class Draws:
    """Draw random numbers for a batch in which every row depends on the seed and its own index alone.

    There is one index a row; rows of another ``stream`` are independent. Results have the shape ``(batch, *size)``.
    """

    def __init__(self, seed: int, indices: Sequence[int], stream: int = 0) -> None:
        self.generators: list[torch.Generator] = []
        for index in indices:
            state = np.random.SeedSequence([seed, index, stream]).generate_state(1, np.uint64)[0]
            self.generators.append(torch.Generator().manual_seed(int(state) & (2**63 - 1)))

    def uniform(self, *size: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "batch ..."]:
        """Draw from ``[low, high)``."""
        unit = torch.stack([torch.rand(size, generator=generator) for generator in self.generators])
        return low + (high - low) * unit

    def normal(self, *size: int, mean: float = 0.0, sd: float = 1.0) -> Float[Tensor, "batch ..."]:
        """Draw from a normal distribution."""
        unit = torch.stack([torch.randn(size, generator=generator) for generator in self.generators])
        return mean + sd * unit

    def integers(self, count: int, *size: int) -> Int[Tensor, "batch ..."]:
        """Draw from ``0 … count - 1``."""
        return torch.stack([torch.randint(count, size, generator=generator) for generator in self.generators])

    def rows(self) -> list["Draws"]:
        """Split into one `Draws` of one row each, which go on where these stand."""
        rows = [Draws(0, ()) for _ in self.generators]
        for row, generator in zip(rows, self.generators, strict=True):
            row.generators = [generator]
        return rows


def random_cameras(vertices: Shapes, draws: Draws) -> Camera:
    """Draw cameras like those of CUB's photographs that keep the whole shape in the picture.

    Azimuth: 45 % uniform, else normal about ±80° (spread 35°). The body is pitched head-up by 40° ± 14°; the
    viewer's elevation and roll have a spread of 15°. The shape's box covers 0.62 to 0.92 of the picture's side and
    lies anywhere inside the picture. One row a shape; cameras are in normalized coordinates.
    """
    side = (2 * draws.integers(2) - 1) * draws.normal(mean=_SIDE_DEG[0], sd=_SIDE_DEG[1])
    azimuth = torch.where(draws.uniform() < _SIDE_SHARE, side, draws.uniform(low=-180.0, high=180.0))
    elevation = draws.normal(sd=_ELEVATION_SD_DEG).clamp(-60, 60)
    roll = draws.normal(sd=_ROLL_SD_DEG).clamp(-60, 60)
    pitch = draws.normal(mean=_PITCH_DEG[0], sd=_PITCH_DEG[1])
    posture = torch.nn.functional.pad(-pitch.deg2rad()[:, None], (0, 2))
    rotation = viewpoint_to_matrix(azimuth.deg2rad(), elevation.deg2rad(), roll.deg2rad())
    rotation = rotation @ axis_angle_to_matrix(posture)

    flat = Camera(torch.ones(len(vertices)), torch.zeros(len(vertices), 2), rotation)
    low, high = project(vertices, flat).aminmax(dim=1)
    scale = 2 * draws.uniform(low=_FILL[0], high=_FILL[1]) / (high - low).amax(-1)
    margin = 1 - scale[:, None] * (high - low) / 2  # room on either side of a centered box
    place = 0.9 * margin * draws.uniform(2, low=-1.0, high=1.0)
    return Camera(scale, place - scale[:, None] * (low + high) / 2, rotation)


def random_shapes(template: Template, draws: Draws) -> Shapes:
    """Deform the template smoothly: proportions, a turned head, a bent tail and gentle bumps.

    The deformation holds no shift and no rotation of the whole bird (least squares over the vertices), so that a
    camera means the same for every shape.
    """
    rest = template.vertices
    parts = dict(zip(template.part_names, rest[template.part_vertices], strict=True))
    length = float(rest[:, 1].max() - rest[:, 1].min())
    shape = rest + _bumps(template, draws, 0.012 * length)
    shape = _turn_head(shape, rest, parts, length, draws)
    shape = _bend_tail(shape, rest, parts, length, draws)
    proportions = draws.normal(3, sd=0.08).exp()
    shape = shape * (proportions / proportions.prod(-1, keepdim=True) ** (1 / 3))[:, None]

    center = shape.mean(1, keepdim=True)
    middle = rest.mean(0)
    turn = procrustes((rest - middle).mT @ (shape - center))
    aligned: Tensor = (shape - center) @ turn.mT + middle
    return aligned


def _bumps(template: Template, draws: Draws, size: float) -> Shapes:
    """Return a smooth random field of displacements whose left-right difference is a quarter of its size."""
    rest = template.vertices
    centers = rest[template.part_vertices]
    reach = 0.15 * float(rest[:, 1].max() - rest[:, 1].min())
    weight = torch.exp(-torch.cdist(rest, centers).square() / (2 * reach**2))
    field = torch.einsum("vp,bpc->bvc", weight, draws.normal(len(centers), 3, sd=size))
    mirrored = field[:, template.mirror] * rest.new_tensor([-1.0, 1.0, 1.0])
    return 0.625 * field + 0.375 * mirrored


def _turn_head(shape: Shapes, rest: Float[Tensor, "V 3"], parts: Parts, length: float, draws: Draws) -> Shapes:
    """Turn and nod the head about the neck, and scale it a little; the neck bends smoothly."""
    head = torch.stack([parts[name] for name in ("crown", "forehead", "left eye", "right eye", "throat")]).mean(0)
    neck = (parts["nape"] + parts["breast"]) / 2
    axis = torch.nn.functional.normalize(head - neck, dim=0)
    weight = torch.sigmoid(((rest - neck) @ axis / length - 0.05) / 0.03)[:, None]
    angles = torch.stack((draws.normal(sd=9.0), draws.normal(sd=5.0), draws.normal(sd=14.0)), -1).deg2rad()
    growth = 1 + weight * draws.normal(1, 1, sd=0.07)
    return _turn(shape, neck, weight * angles[:, None], growth)


def _bend_tail(shape: Shapes, rest: Float[Tensor, "V 3"], parts: Parts, length: float, draws: Draws) -> Shapes:
    """Raise or lower the tail and make it longer or shorter."""
    root = parts["tail"] + 0.3 * (parts["back"] + parts["belly"] - 2 * parts["tail"]) / 2
    weight = torch.sigmoid(((rest - root)[:, 1] / length - 0.02) / 0.04)[:, None]
    angles = torch.nn.functional.pad(draws.normal(1, sd=8.0).deg2rad(), (0, 2))
    return _turn(shape, root, weight * angles[:, None], 1 + weight * draws.normal(1, 1, sd=0.12))


def _turn(shape: Shapes, about: Point, axis_angle: Shapes, growth: Float[Tensor, "batch V 1"]) -> Shapes:
    """Turn every vertex by its own rotation about a point and scale its distance from there."""
    turned = axis_angle_to_matrix(axis_angle) @ (shape - about)[..., None]
    return turned[..., 0] * growth + about
