"""Fitting many cameras to one silhouette each, the template's shape being fixed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from kpose._limits import check_side
from kpose.losses import distance_transform, silhouette_loss
from kpose.reconstruction.viewpoint_grid import turn_cameras
from kpose.rendering import Renderer
from kpose.structures import Camera, Mesh

__all__ = ["SearchLevel", "search_cameras"]


@dataclass(frozen=True)
class SearchLevel:
    """One resolution of a camera search.

    Example:
        >>> SearchLevel(32, 50, 0.1, 1e-4).steps
        50
    """

    size: int = 64
    """Side of the renderings, in pixels."""
    steps: int = 150
    """Steps of Adam."""
    lr: float = 0.1
    """Learning rate of Adam."""
    sigma: float = 1e-4
    """Blur of the renderings, in squared normalized units."""

    def __post_init__(self) -> None:
        """Refuse what no memory holds."""
        check_side(self.size, "SearchLevel", "size")


def search_cameras(
    mesh: Mesh,
    cameras: Camera,
    mask: Float[Tensor, "batch h w"],
    *,
    ranges: Float[Tensor, "3"],
    renderer: Callable[[float], Renderer],
    levels: Sequence[SearchLevel],
    gain: float = 0.1,
) -> tuple[Camera, Float[Tensor, "batch P"]]:
    """Fit the cameras of each image to its silhouette by gradient descent, all of them in one rendering.

    Args:
        mesh: Shape that is seen, without leading dimensions.
        cameras: Cameras to start from, ``(batch, P)``.
        mask: Silhouettes of the images, in [0, 1].
        ranges: Largest turn in azimuth, elevation and roll, in radians.
        renderer: Builds the renderer of a level from its blur.
        levels: Resolutions, coarse to fine; Adam's moments are kept from one to the next.
        gain: Factor of the angular residuals within the tanh that bounds them.

    Returns:
        The fitted cameras, and their silhouette losses at the last level.

    Raises:
        ValueError: If there is no level.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020: one level of 150 steps at rate 0.1 from the
        grid of the camera multiplex (released code).

    Example:
        >>> from kpose.reconstruction import ViewpointGrid
        >>> from kpose.rendering import CompositeRenderer
        >>> from kpose.templates import bird, template_mesh
        >>> grid = ViewpointGrid(azimuths=2, elevations=1)
        >>> start = Camera(torch.full((1, 2), grid.scale), torch.zeros(1, 2, 2), grid.rotations()[None])
        >>> mask = torch.zeros(1, 16, 16)
        >>> mask[:, 5:11, 3:13] = 1.0
        >>> cameras, loss = search_cameras(
        ...     template_mesh(bird()), start, mask, ranges=grid.ranges(), renderer=CompositeRenderer,
        ...     levels=[SearchLevel(size=16, steps=3)],
        ... )
        >>> cameras.rotation.shape, loss.shape
        (torch.Size([1, 2, 3, 3]), torch.Size([1, 2]))
    """
    if not levels:
        raise ValueError("search_cameras needs at least one level; got none. Give its size and number of steps.")
    residuals = torch.zeros(*cameras.scale.shape, 6, device=mask.device, requires_grad=True)
    optimizer = torch.optim.Adam([residuals])
    for level in levels:
        compare = _comparison(mesh, mask, level, renderer(level.sigma))
        optimizer.param_groups[0]["lr"] = level.lr
        for _ in range(level.steps):
            losses = compare(turn_cameras(cameras, residuals, ranges, gain))
            # The sum: what one camera does must not depend on how many there are.
            (residuals.grad,) = torch.autograd.grad(losses.sum(), residuals)
            optimizer.step()
    with torch.no_grad():
        fitted = turn_cameras(cameras, residuals, ranges, gain)
        return fitted, compare(fitted)


def _comparison(
    mesh: Mesh, mask: Tensor, level: SearchLevel, renderer: Renderer
) -> Callable[[Camera], Float[Tensor, "batch P"]]:
    target = interpolate(mask[:, None], size=(level.size, level.size), mode="area")
    distance = distance_transform(target > 0.5)

    def compare(cameras: Camera) -> Tensor:
        return silhouette_loss(renderer.silhouette(mesh, cameras, level.size), target, distance)

    return compare
