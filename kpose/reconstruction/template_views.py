"""A template seen from everywhere, and pictures brought to the same place and size, to be compared with it.

What a silhouette looks like up to place and size does not depend on the picture. So the template is drawn once for
every rotation, and every picture is cut out such that its object has the same center and area: comparing all
pictures with all rotations is then a product of matrices, with nothing to render or to optimize for a picture.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from kpose.geometry import project
from kpose.geometry._heatmap import heatmap_mean
from kpose.rendering import HardRenderer, vertex_visibility
from kpose.structures import Camera, Mesh

__all__ = [
    "WINDOW_CELLS",
    "WINDOW_REACH",
    "Placement",
    "TemplateViews",
    "cut_windows",
    "placement_of_mask",
    "silhouette_overlap",
    "view_template",
]

WINDOW_CELLS = 32
WINDOW_REACH = 1.6  # of the window from the object's center, in roots of its area: an ellipse of 7:1 just fits
DRAWN_SIZE = 64
VISIBILITY_SIZE = 48


class Placement(NamedTuple):
    """Where in a picture an object is, and how large."""

    center: Float[Tensor, "*batch 2"]
    """Mean position of what it covers, in normalized image coordinates."""
    area: Float[Tensor, "*batch"]
    """What it covers, in squared normalized image units: 4 is all of the picture."""


class TemplateViews(NamedTuple):
    """A template seen under each of many rotations, in windows like those of pictures."""

    rotations: Float[Tensor, "R 3 3"]
    """The rotations."""
    silhouettes: Float[Tensor, "R cells"]
    """Share of each of the window's cells that the object covers."""
    cells: Int[Tensor, "R V"]
    """Cell that shows the vertex, one past the last for vertices that are not seen."""


def placement_of_mask(mask: Float[Tensor, "*batch H W"]) -> Placement:
    """Measure where masks are; an empty one lies in the middle and has almost no area.

    Example:
        >>> mask = torch.zeros(4, 4)
        >>> mask[:2, :2] = 1
        >>> placement_of_mask(mask)
        Placement(center=tensor([-0.5000, -0.5000]), area=tensor(1.))
    """
    cells = mask.shape[-2] * mask.shape[-1]
    covered = mask.sum((-1, -2))[..., None, None]
    share = torch.where(covered > 0, mask / covered.clamp_min(1e-6), 1 / cells)
    center = heatmap_mean(share[..., None, :, :])[..., 0, :]
    return Placement(center, covered[..., 0, 0].clamp_min(1e-6) * (4 / cells))


def cut_windows(maps: Float[Tensor, "N C h w"], placement: Placement) -> Float[Tensor, "N C side side"]:
    """Cut out of maps the square around the object whose side is in proportion to the root of the object's area."""
    reach = WINDOW_REACH * placement.area.sqrt()[:, None, None]
    window = torch.cat((reach * torch.eye(2, device=maps.device), placement.center[..., None]), -1)
    where = affine_grid(window, [len(maps), 1, WINDOW_CELLS, WINDOW_CELLS], align_corners=False)
    return grid_sample(maps, where, align_corners=False)


def view_template(mesh: Mesh, rotations: Float[Tensor, "R 3 3"]) -> TemplateViews:
    """Render a template under many rotations; one of one or two hundred vertices serves well."""
    scale = 0.95 / mesh.vertices.norm(dim=-1).amax()  # shows the whole object, however it is turned
    silhouettes, cells = [], []
    for some in torch.split(rotations, 256):
        camera = Camera(scale.expand(len(some)), some.new_zeros(len(some), 2), some)
        mask = HardRenderer().render(mesh, camera, DRAWN_SIZE).mask
        placement = placement_of_mask(mask)
        silhouettes.append(cut_windows(mask[:, None], placement).flatten(1))
        seen = vertex_visibility(mesh, camera, size=VISIBILITY_SIZE)
        points = project(mesh.vertices.expand(len(some), -1, -1), camera)
        cells.append(_cells((points - placement.center[:, None]) / placement.area.sqrt()[:, None, None], seen))
    return TemplateViews(rotations, torch.cat(silhouettes), torch.cat(cells))


def silhouette_overlap(windows: Float[Tensor, "N cells"], views: TemplateViews) -> Float[Tensor, "N R"]:
    """Compute the intersection over union of masks in windows (see `cut_windows`) with a template's silhouettes."""
    shared = windows @ views.silhouettes.mT
    return shared / (windows.sum(-1)[:, None] + views.silhouettes.sum(-1) - shared).clamp_min(1e-6)


def _cells(points: Float[Tensor, "R V 2"], seen: Bool[Tensor, "R V"]) -> Int[Tensor, "R V"]:
    """Number the window's cells that points lie in."""
    column, row = ((points / WINDOW_REACH + 1) / 2 * WINDOW_CELLS).floor().long().unbind(-1)
    inside = seen & (column >= 0) & (column < WINDOW_CELLS) & (row >= 0) & (row < WINDOW_CELLS)
    return torch.where(inside, row * WINDOW_CELLS + column, WINDOW_CELLS**2)
