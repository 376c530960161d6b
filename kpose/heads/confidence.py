"""How far to trust the peak of a heatmap, learned from which keypoints were in sight."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["PeakConfidence"]


class PeakConfidence(nn.Module):
    """Judge the peaks of heatmaps by what the image shows there and by the map around them.

    Each keypoint has its own linear output on a hidden layer that all share; the layer sees the features at the
    peak, their mean over the image, the height of the peak and the share of the map that is close to it.
    """

    def __init__(self, count: int, width: int, hidden: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(2 * width + 2, hidden), nn.ReLU())
        self.weight = nn.Parameter(torch.zeros(count, hidden))
        self.bias = nn.Parameter(torch.zeros(count))

    def forward(
        self,
        features: Float[Tensor, "batch C h w"],
        heatmaps: Float[Tensor, "batch N H W"],
        peaks: Float[Tensor, "batch N 2"],
        heights: Float[Tensor, "batch N"],
    ) -> Float[Tensor, "batch N"]:
        """Return logits of the keypoints being in sight, 0 before training; features are those under the maps."""
        local = nn.functional.grid_sample(features, peaks[:, :, None], padding_mode="border", align_corners=False)
        local = local.squeeze(-1).mT
        pooled = features.mean((-2, -1))[:, None].expand_as(local)
        positive = heatmaps.clamp_min(0).sum((-2, -1))
        around = heights / positive.clamp_min(torch.finfo(positive.dtype).tiny)
        seen = torch.cat((local, pooled, heights[..., None], around[..., None]), -1)
        # The head hands over float32 whatever it is trained in, such as bfloat16 throughout.
        hidden = self.hidden(seen.to(self.weight.dtype))
        logits: Tensor = (hidden * self.weight).sum(-1) + self.bias
        return logits.to(heights.dtype)
