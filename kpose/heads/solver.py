"""Cameras from keypoints of which some are trusted more than others."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kpose.pnp import PnPSolution, solve_pnp
from kpose.recipe import Recorded

__all__ = ["KeypointSolver"]

# Share of its weight that a keypoint keeps which is not trusted: enough to be told inlier from outlier, and too
# little to move the camera.
_DISTRUST = 1e-4


class KeypointSolver(Recorded, nn.Module):
    """Solve for the cameras of a batch from the keypoints with the highest confidence.

    Args:
        trusted: Share of the keypoints that decides, in (0, 1]; never fewer than eight.
        threshold: Rough distance of a good keypoint from its projection, in normalized units; None gives least
            squares (see `kpose.pnp.solve_pnp`).
        hypotheses: Random samples to try in evaluation mode. In training, where no loss reads the camera, 16.

    Raises:
        ValueError: If ``trusted`` is not in (0, 1], or the threshold or ``hypotheses`` not positive.

    Example:
        >>> solver = KeypointSolver()
        >>> solution = solver(torch.zeros(1, 8, 2), torch.zeros(1, 8, 3), torch.zeros(1, 8))
        >>> solution.valid, solution.camera.scale.isfinite()
        (tensor([False]), tensor([True]))
    """

    def __init__(self, *, trusted: float = 0.5, threshold: float | None = 0.1, hypotheses: int = 128) -> None:
        super().__init__()
        if not 0 < trusted <= 1 or (threshold is not None and not threshold > 0) or hypotheses < 1:
            raise ValueError(
                "KeypointSolver needs trusted in (0, 1] and a positive threshold and hypotheses; got "
                f"{trusted}, {threshold} and {hypotheses}."
            )
        self.trusted = trusted
        self.threshold = threshold
        self.hypotheses = hypotheses

    def forward(
        self,
        keypoints: Float[Tensor, "batch N 2"],
        points: Float[Tensor, "batch N 3"],
        confidence: Float[Tensor, "batch N"],
    ) -> PnPSolution:
        """Solve for the cameras.

        Args:
            keypoints: Places of the keypoints in the images.
            points: The keypoints on the objects.
            confidence: Trust in each keypoint, which is also its weight.

        Returns:
            Cameras with inliers, covariance and validity. A camera that the keypoints do not determine is finite
            and not valid.
        """
        total = confidence.shape[-1]
        best = confidence.topk(min(total, max(8, math.ceil(self.trusted * total)))).indices
        share = torch.full_like(confidence, _DISTRUST).scatter(-1, best, 1.0)
        hypotheses = 16 if self.training else self.hypotheses
        return solve_pnp(keypoints, points, confidence * share, threshold=self.threshold, hypotheses=hypotheses)
