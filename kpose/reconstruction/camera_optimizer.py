"""Adam over the cameras of a table, each image on its own."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.reconstruction.camera_table import CameraTable
from kpose.reconstruction.row_state import RowState, gather_rows
from kpose.reconstruction.viewpoint_grid import ViewpointGrid, turn_cameras
from kpose.structures import Camera

__all__ = ["CameraOptimizer"]

BETAS = (0.9, 0.999)
EPSILON = 1e-8


class CameraOptimizer(RowState):
    """Refine the cameras of a table by gradient descent.

    Each camera has six residuals from where it started: three are added to scale and translation, three turn it by
    ``tanh(gain * r) * range`` in azimuth, elevation and roll. `step` moves them by Adam and writes the cameras into
    the table, which is always up to date. Moments and step counts belong to rows: images that are not in a batch
    stay bit for bit. All state is buffers, none of it parameters, so that nothing averages the cameras of one
    process with those of another; rows are gathered from all processes.

    Args:
        table: The cameras. After changing them otherwise, call `fold_residuals`.
        lr: Learning rate.
        gain: Factor of the angular residuals within the tanh.
        grid: Has the ranges of the turns.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020, section 3.1; the released code's constants.

    Example:
        >>> optimizer = CameraOptimizer(CameraTable(torch.tensor([7, 9])), lr=0.1)
        >>> optimizer.step(torch.tensor([0]), torch.ones(1, 40, 6))
        >>> (optimizer.table.scale - 0.8).abs().amax(1)
        tensor([0.1000, 0.0000])
    """

    base_scale: Tensor
    base_translation: Tensor
    base_rotation: Tensor
    residual: Tensor
    moment: Tensor
    square: Tensor
    steps: Tensor
    ranges: Tensor

    def __init__(
        self, table: CameraTable, *, lr: float = 1e-4, gain: float = 1.0, grid: ViewpointGrid | None = None
    ) -> None:
        super().__init__()
        self.table = table
        self.lr = lr
        self.gain = gain
        self.register_buffer("ranges", (ViewpointGrid() if grid is None else grid).ranges().to(table.scale))
        for name in ("base_scale", "base_translation", "base_rotation", "residual", "moment", "square", "steps"):
            self.register_buffer(name, None)
        self.fold_residuals()

    @torch.no_grad()
    def fold_residuals(self) -> None:
        """Start again, with residuals and moments of zero, from the cameras that are in the table now."""
        self.base_scale, self.base_translation, self.base_rotation = self.table.cameras()
        self.residual, self.moment, self.square = (
            self.base_scale.new_zeros(*self.base_scale.shape, 6) for _ in range(3)
        )
        self.steps = torch.zeros_like(self.table.index)

    def residuals(self, rows: Int[Tensor, "batch"]) -> Float[Tensor, "batch P 6"]:
        """Return residuals as a leaf that gradients are taken by: scale, translation, azimuth, elevation, roll.

        Args:
            rows: Rows of the table.

        Returns:
            A copy that asks for gradients.
        """
        return self.residual[rows].clone().requires_grad_()

    def cameras(self, rows: Int[Tensor, "batch"], residuals: Float[Tensor, "batch P 6"] | None = None) -> Camera:
        """Return the cameras of images in their reference crops.

        Args:
            rows: Rows of the table.
            residuals: Differentiable residuals; the present ones when None.

        Returns:
            Cameras, ``(batch, P)``.
        """
        residuals = self.residual[rows] if residuals is None else residuals
        base = Camera(self.base_scale[rows], self.base_translation[rows], self.base_rotation[rows])
        # In bfloat16 rotations are rounded to a third of a degree.
        with torch.autocast(residuals.device.type, enabled=False):
            return turn_cameras(base, residuals, self.ranges, self.gain)

    @torch.no_grad()
    def step(self, rows: Int[Tensor, "batch"], gradient: Float[Tensor, "batch P 6"]) -> None:
        """Move the cameras of some images by one step of Adam; all other rows stay bit for bit.

        Args:
            rows: Rows of the table; an image that comes more than once moves by its mean gradient.
            gradient: Gradient of the residuals. Rows with a gradient that is not finite stay as they are.

        Source:
            Kingma and Ba, Adam, ICLR 2015, with moments and the count of steps kept by row.
        """
        rows, gradient = gather_rows(rows, gradient)
        gradient = _mean_by_row(rows, gradient).to(self.residual)
        # Where it is not finite, values are replaced: to leave rows out, the host would wait to know how many.
        good = gradient.isfinite().flatten(1).all(-1)
        state = self.residual, self.moment, self.square
        residual, moment, square = before = [own[rows] for own in state]
        steps = self.steps[rows] + 1
        moment = moment.lerp(gradient, 1 - BETAS[0])
        square = square.lerp(gradient.square(), 1 - BETAS[1])
        count = steps[:, None, None].to(gradient)
        change = self.lr * (moment / (1 - BETAS[0] ** count))
        residual = residual - change / ((square / (1 - BETAS[1] ** count)).sqrt() + EPSILON)
        self.steps[rows] = torch.where(good, steps, steps - 1)
        for own, new, old in zip(state, (residual, moment, square), before, strict=True):
            own[rows] = torch.where(good[:, None, None], new, old)
        self.table.write(rows, self.cameras(rows).where(good[:, None], self.table.cameras(rows)))

    def prune(self, keep: int, *, min_angle_deg: float = 0.0) -> None:
        """Keep the best cameras of every image (see `CameraTable.prune`), which start again from where they are.

        Args:
            keep: Cameras that each image keeps.
            min_angle_deg: Least angle between kept cameras.

        Raises:
            ValueError: If ``keep`` is not between 1 and the number of cameras, or scores are unknown.
        """
        self.table.prune(keep, min_angle_deg=min_angle_deg)
        self.fold_residuals()


def _mean_by_row(rows: Tensor, gradient: Tensor) -> Tensor:
    """Return, for each entry, the mean gradient of all entries of its row."""
    same = rows[:, None] == rows
    first = same.int().argmax(1)
    total = torch.zeros_like(gradient).index_add_(0, first, gradient)
    return total[first] / same.sum(1)[:, None, None]
