"""Ways to train keypoint maps: what an output stands for, where its keypoints are, and how it is scored."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kpose.geometry import heatmap_mean, heatmap_peaks
from kpose.losses.heatmap import heatmap_divergence, heatmap_loss, weighted_mean

__all__ = ["DivergenceLoss", "HeatmapLoss", "PositionLoss"]


class HeatmapLoss(nn.Module):
    """Weighted least squares between heatmaps (see `heatmap_loss`); the base of the other losses of keypoint maps.

    The network's output is the heatmap itself, about 1 at the keypoint and 0 elsewhere.

    Source:
        Equation 3 of the keypoint paper kpose implements.

    Example:
        >>> from kpose.geometry import gaussian_heatmaps
        >>> keypoints = torch.tensor([[[0.3, -0.2]]])
        >>> targets = gaussian_heatmaps(keypoints, (16, 16), 0.1)
        >>> loss = HeatmapLoss()
        >>> loss(targets, keypoints, targets, torch.ones(1, 1))
        tensor(0.)
        >>> loss.peaks(loss.heatmaps(targets))[0]
        tensor([[[ 0.3000, -0.2000]]])
    """

    def heatmaps(self, output: Float[Tensor, "*batch N h w"]) -> Float[Tensor, "*batch N h w"]:
        """Turn the network's output into heatmaps."""
        return output

    def peaks(
        self, heatmaps: Float[Tensor, "*batch N h w"]
    ) -> tuple[Float[Tensor, "*batch N 2"], Float[Tensor, "*batch N"]]:
        """Read the keypoints.

        Args:
            heatmaps: What `heatmaps` gave.

        Returns:
            Positions in normalised coordinates, and heights in [0, 1], which say how clear each is.
        """
        points, height = heatmap_peaks(heatmaps)
        return points, height.clamp(0, 1)

    def forward(
        self,
        output: Float[Tensor, "*batch N h w"],
        keypoints: Float[Tensor, "*batch N 2"],
        targets: Float[Tensor, "*batch N h w"],
        weights: Float[Tensor, "*batch N"],
    ) -> Float[Tensor, ""]:
        """Score the network's output.

        Args:
            output: What the network gives.
            keypoints: True positions, in normalised coordinates.
            targets: Proxy heatmaps, a Gaussian of height 1 around each.
            weights: Weight of each keypoint.

        Returns:
            Mean over the keypoints, weighted; zero when all weights are.
        """
        return heatmap_loss(output, targets, weights)


class DivergenceLoss(HeatmapLoss):
    """Divergence of the normalised proxy heatmaps from the predicted ones (see `heatmap_divergence`).

    The network's output are logits and a heatmap is a distribution over the cells; its height is the share of the
    highest.
    """

    def heatmaps(self, output: Float[Tensor, "*batch N h w"]) -> Float[Tensor, "*batch N h w"]:
        """Normalise by a softmax over the cells."""
        return output.flatten(-2).softmax(-1).view_as(output)

    def forward(
        self,
        output: Float[Tensor, "*batch N h w"],
        keypoints: Float[Tensor, "*batch N 2"],
        targets: Float[Tensor, "*batch N h w"],
        weights: Float[Tensor, "*batch N"],
    ) -> Float[Tensor, ""]:
        """Score the network's output; see `HeatmapLoss.forward`."""
        return heatmap_divergence(output, targets, weights)


class PositionLoss(DivergenceLoss):
    """Distance of the mean position of a map from the keypoint: regression to a fraction of a cell.

    The network's output are logits, as for `DivergenceLoss`, and the keypoint is the mean position of the softmax
    (soft-argmax), not its peak. The divergence, with a small weight, keeps maps from spreading to both sides of the
    keypoint.

    Args:
        divergence_weight: Weight of `heatmap_divergence` beside the distance in normalised units.

    Source:
        Nibali et al., Numerical Coordinate Regression with Convolutional Neural Networks, 2018; the divergence is
        Kullback and Leibler's instead of Jensen and Shannon's.
    """

    def __init__(self, *, divergence_weight: float = 0.1) -> None:
        super().__init__()
        self.divergence_weight = divergence_weight

    def peaks(
        self, heatmaps: Float[Tensor, "*batch N h w"]
    ) -> tuple[Float[Tensor, "*batch N 2"], Float[Tensor, "*batch N"]]:
        """Read the mean positions; see `HeatmapLoss.peaks`."""
        return heatmap_mean(heatmaps), heatmaps.amax((-2, -1))

    def forward(
        self,
        output: Float[Tensor, "*batch N h w"],
        keypoints: Float[Tensor, "*batch N 2"],
        targets: Float[Tensor, "*batch N h w"],
        weights: Float[Tensor, "*batch N"],
    ) -> Float[Tensor, ""]:
        """Score the network's output; see `HeatmapLoss.forward`."""
        offset = heatmap_mean(self.heatmaps(output)) - keypoints
        # The norm has no gradient at zero.
        distance = (offset.square().sum(-1) + torch.finfo(offset.dtype).tiny).sqrt()
        return weighted_mean(distance, weights) + self.divergence_weight * heatmap_divergence(
            output, targets, weights
        )
