"""Ways to train keypoint maps: what an output stands for, where its keypoints are, and how it is scored."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kpose.geometry._heatmap import heatmap_mean, heatmap_peaks
from kpose.recipe import Recorded

__all__ = ["DivergenceLoss", "HeatmapLoss", "PositionLoss"]

# Total weight under which keypoints count as absent.
_TINY = 1e-12


class HeatmapLoss(Recorded, nn.Module):
    """Weighted least squares between heatmaps; the base of the other losses of keypoint maps.

    The network's output is the heatmap itself, about 1 at the keypoint and 0 elsewhere. A Gaussian covers few
    cells, so a mean over cells is almost the same for the right map and for an empty one, and training stops at
    empty maps. Here the squared differences are summed over the cells and divided by the mean energy of the
    targets: an empty map scores 1, whatever the resolution and the width.

    Source:
        Gharaee et al. 2022, Equation 3; the normalization is ours.

    Example:
        >>> from kpose.geometry._heatmap import gaussian_heatmaps
        >>> keypoints = torch.tensor([[[0.3, -0.2]]])
        >>> targets = gaussian_heatmaps(keypoints, (16, 16), 0.1)
        >>> loss = HeatmapLoss()
        >>> loss(0 * targets, keypoints, targets, torch.ones(1, 1))
        tensor(1.)
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
            heatmaps: Result of `heatmaps`.

        Returns:
            Positions in normalized coordinates, and heights in [0, 1], which say how clear each is.
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
            output: Output of the network.
            keypoints: True positions, in normalized coordinates.
            targets: Proxy heatmaps, a Gaussian of height 1 around each.
            weights: Weight of each keypoint, 0 for one that is not known.

        Returns:
            Mean over the keypoints, weighted; zero, with zero gradient, when all weights are.
        """
        error = (output - targets).square().sum((-2, -1))
        energy = targets.square().sum((-2, -1))
        return (weights * error).sum() / (weights * energy).sum().clamp_min(_TINY)


class DivergenceLoss(HeatmapLoss):
    """Kullback-Leibler divergence ``KL(t / Σt ‖ softmax(output))`` of the proxy heatmaps, in nats.

    The network's output is logits and a heatmap is a distribution over the cells; its height is the share of the
    highest. What is compared is where, not how much, so an empty map is not on the way. Targets that are zero
    everywhere do not count.

    Source:
        Nibali et al., Numerical Coordinate Regression with Convolutional Neural Networks, 2018, section 3.3.

    Example:
        >>> target = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
        >>> DivergenceLoss()(0 * target, torch.zeros(1, 2), target, torch.ones(1)).exp()
        tensor(4.)
    """

    def heatmaps(self, output: Float[Tensor, "*batch N h w"]) -> Float[Tensor, "*batch N h w"]:
        """Normalize by a softmax over the cells."""
        return output.flatten(-2).softmax(-1).view_as(output)

    def forward(
        self,
        output: Float[Tensor, "*batch N h w"],
        keypoints: Float[Tensor, "*batch N 2"],
        targets: Float[Tensor, "*batch N h w"],
        weights: Float[Tensor, "*batch N"],
    ) -> Float[Tensor, ""]:
        """Score the network's output; see `HeatmapLoss.forward`."""
        predicted = output.flatten(-2).log_softmax(-1)
        total = targets.flatten(-2).sum(-1, keepdim=True)
        wanted = targets.flatten(-2) / total.clamp_min(torch.finfo(targets.dtype).tiny)
        divergence = (torch.special.xlogy(wanted, wanted) - wanted * predicted).sum(-1)
        return _weighted_mean(divergence, weights * (total[..., 0] > 0))


class PositionLoss(DivergenceLoss):
    """Distance of the mean position of a map from the keypoint: regression to a fraction of a cell.

    The network's output is logits, as for `DivergenceLoss`, and the keypoint is the mean position of the softmax
    (soft-argmax), not its peak. The divergence, with a small weight, keeps maps from spreading to both sides of the
    keypoint.

    Args:
        divergence_weight: Weight of `DivergenceLoss` beside the distance in normalized units.

    Source:
        Nibali et al., Numerical Coordinate Regression with Convolutional Neural Networks, 2018; the divergence is
        Kullback and Leibler's instead of Jensen and Shannon's.

    Example:
        >>> output = torch.zeros(1, 1, 4, 4)
        >>> output[..., 1, 2] = 30.0  # all of the map in one cell
        >>> loss = PositionLoss()
        >>> loss.peaks(loss.heatmaps(output))[0]
        tensor([[[ 0.2500, -0.2500]]])
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
        divergence = super().forward(output, keypoints, targets, weights)
        return _weighted_mean(distance, weights) + self.divergence_weight * divergence


def _weighted_mean(values: Float[Tensor, "*batch"], weights: Float[Tensor, "*batch"]) -> Float[Tensor, ""]:
    """Average values; zero when all weights are."""
    return (weights * values).sum() / weights.sum().clamp_min(_TINY)
