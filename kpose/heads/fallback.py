"""Cameras from keypoints, and what is done where the keypoints determine none."""

import math
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kpose.pnp import PnPSolution, solve_pnp
from kpose.recipe import Recorded
from kpose.structures import Camera

__all__ = ["KeypointSolver", "PoseSource"]


class PoseSource(IntEnum):
    """Where the camera of an image comes from, best first."""

    KEYPOINTS = 0
    """The keypoints that are trusted."""
    MORE_KEYPOINTS = 1
    """All keypoints: among the trusted ones too few agreed."""
    REGRESSION = 2
    """Regression from the features: among all keypoints too few agreed."""
    NONE = 3
    """An arbitrary finite camera: too few keypoints agreed, and there was no finite one to fall back on."""


class KeypointSolver(Recorded, nn.Module):
    """Solve for the cameras of a batch, each image by the first means that serves.

    First the keypoints with the highest confidence are solved for; where too few of them agree, all keypoints;
    where even of these too few agree, the camera that was regressed is taken. Whole batches are solved at once, and
    the second time only the images that need it.

    Args:
        trusted: Share of the keypoints that takes part at first; never fewer than eight.
        min_inliers: Inliers that a camera needs, as a share of all keypoints; never fewer than four.
        threshold: Rough distance of a good keypoint from its projection, in normalised units; None gives least
            squares (see `kpose.pnp.solve_pnp`).
        hypotheses: Random samples to try in evaluation mode. In training, where no loss reads the camera, 16.

    Raises:
        ValueError: If a share is not in [0, 1], ``trusted`` is 0, or the threshold or ``hypotheses`` not positive.

    Example:
        >>> solver = KeypointSolver()
        >>> nothing = torch.zeros(1, 8, 2), torch.zeros(1, 8, 3), torch.zeros(1, 8)
        >>> solution, source = solver(*nothing, regression=None)
        >>> PoseSource(int(source)).name, solution.valid
        ('NONE', tensor([False]))
    """

    def __init__(
        self,
        *,
        trusted: float = 0.5,
        min_inliers: float = 0.2,
        threshold: float | None = 0.1,
        hypotheses: int = 128,
    ) -> None:
        super().__init__()
        if not (0 < trusted <= 1 and 0 <= min_inliers <= 1):
            raise ValueError(
                f"KeypointSolver needs trusted in (0, 1] and min_inliers in [0, 1]; got {trusted}, {min_inliers}."
            )
        if (threshold is not None and not threshold > 0) or hypotheses < 1:
            raise ValueError(
                f"KeypointSolver needs a positive threshold and hypotheses; got {threshold} and {hypotheses}."
            )
        self.trusted = trusted
        self.min_inliers = min_inliers
        self.threshold = threshold
        self.hypotheses = hypotheses

    def forward(
        self,
        keypoints: Float[Tensor, "batch N 2"],
        points: Float[Tensor, "batch N 3"],
        confidence: Float[Tensor, "batch N"],
        regression: Camera | None,
    ) -> tuple[PnPSolution, Int[Tensor, "batch"]]:
        """Solve for the cameras.

        Args:
            keypoints: Places of the keypoints in the images.
            points: The keypoints on the objects.
            confidence: Trust in each keypoint, which is also its weight.
            regression: Cameras to fall back on; one that is not finite is passed over.

        Returns:
            Cameras with inliers, covariance and validity, and a `PoseSource` for each. A camera that is not from
            keypoints is not valid, has no inliers and the unit matrix for covariance.
        """
        share = self._share(confidence)
        solution = self._solve(keypoints, points, confidence * share)
        source = torch.full(confidence.shape[:1], PoseSource.KEYPOINTS, device=confidence.device)
        failed = self._failed(solution, share == 1)
        if not failed.any():
            return solution, source
        (rows,) = failed.nonzero(as_tuple=True)
        again = self._solve(keypoints[rows], points[rows], confidence[rows])
        source[rows] = PoseSource.MORE_KEYPOINTS
        solution = _put(solution, rows, again)
        failed = self._failed(solution, (share == 1) | failed[:, None])
        source[failed] = PoseSource.NONE
        if regression is not None:
            sound = torch.stack([part.flatten(1).isfinite().all(-1) for part in _columns(regression)]).all(0)
            source[failed & sound] = PoseSource.REGRESSION
        return _give_up(solution, failed, source == PoseSource.REGRESSION, regression), source

    def _share(self, confidence: Tensor) -> Tensor:
        """Say how much of each keypoint's weight counts at first."""
        total = confidence.shape[-1]
        best = confidence.topk(min(total, max(8, math.ceil(self.trusted * total)))).indices
        # The others are left enough to be told inlier from outlier, and too little to move the camera.
        return torch.full_like(confidence, 1e-4).scatter(-1, best, 1.0)

    def _solve(self, keypoints: Tensor, points: Tensor, weights: Tensor) -> PnPSolution:
        hypotheses = 16 if self.training else self.hypotheses
        return solve_pnp(keypoints, points, weights, threshold=self.threshold, hypotheses=hypotheses)

    def _failed(self, solution: PnPSolution, counted: Tensor) -> Bool[Tensor, "batch"]:
        needed = max(4, math.ceil(self.min_inliers * solution.inliers.shape[-1]))
        return ~solution.valid | ((solution.inliers & counted).sum(-1) < needed)


def _put(solution: PnPSolution, rows: Tensor, other: PnPSolution) -> PnPSolution:
    """Put solutions of some images in the place of the earlier ones."""
    return PnPSolution(
        Camera(*(old.index_copy(0, rows, new) for old, new in zip(solution.camera, other.camera, strict=True))),
        solution.inliers.index_copy(0, rows, other.inliers),
        solution.covariance.index_copy(0, rows, other.covariance),
        solution.valid.index_copy(0, rows, other.valid),
    )


def _columns(camera: Camera) -> tuple[Tensor, ...]:
    return camera.scale[:, None], camera.translation, camera.rotation


def _give_up(solution: PnPSolution, failed: Tensor, regressed: Tensor, regression: Camera | None) -> PnPSolution:
    camera = solution.camera
    if regression is not None:
        camera = Camera(*(_where(regressed, new, old) for new, old in zip(regression, camera, strict=True)))
    eye = torch.eye(6, dtype=solution.covariance.dtype, device=failed.device)
    return PnPSolution(
        camera,
        solution.inliers & ~failed[:, None],
        _where(failed, eye, solution.covariance),
        solution.valid & ~failed,
    )


def _where(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(condition.reshape(-1, *(1,) * (no.dim() - 1)), yes, no)
