"""The smooth network: a feature pyramid to maps at its finest resolution."""

import torch
from torch import Tensor, nn

from kpose.structures import Features, FeatureSpec

__all__ = ["ChannelAttention", "RefinementBlock", "SmoothNetwork"]


class RefinementBlock(nn.Module):
    """Refinement residual block: a 1×1 convolution, then two 3×3 convolutions around a shortcut."""

    def __init__(self, source: int, target: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(source, target, 1)
        self.body = nn.Sequential(
            nn.Conv2d(target, target, 3, padding=1, bias=False),
            nn.BatchNorm2d(target),
            nn.ReLU(),
            nn.Conv2d(target, target, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        reduced: Tensor = self.reduce(x)
        return nn.functional.relu(reduced + self.body(reduced))


class ChannelAttention(nn.Module):
    """Channel attention block: what is coarse chooses the channels of what is fine, and is added to it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid())

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Apply the block to two maps of one size."""
        weight = self.weigh(torch.cat((fine, coarse), 1).mean((-2, -1)))
        attended: Tensor = fine * weight[..., None, None] + coarse
        return attended


class SmoothNetwork(nn.Module):
    """Refine a feature pyramid from its coarsest map to its finest and read output maps off it.

    The mean of the coarsest map (global context) starts the way down; at every stage the map goes through a
    refinement block, is joined with what came from above by channel attention, and is refined again. Everything is
    scaled up bilinearly with ``align_corners=False``, so the maps stay on kpose's one grid. In a deep network every
    stage has an output, not the finest only (deep supervision).

    Source:
        Yu et al., Learning a Discriminative Feature Network for Semantic Segmentation, CVPR 2018, section 3.1.
    """

    def __init__(self, spec: FeatureSpec, outputs: int, width: int = 64, *, deep: bool = False) -> None:
        super().__init__()
        channels = spec.channels[::-1]
        self.context = nn.Sequential(nn.Linear(channels[0], width), nn.ReLU())
        self.enter = nn.ModuleList(RefinementBlock(source, width) for source in channels)
        self.attend = nn.ModuleList(ChannelAttention(width) for _ in channels)
        self.leave = nn.ModuleList(RefinementBlock(width, width) for _ in channels)
        read = [nn.Conv2d(width, outputs, 1) for _ in (channels if deep else channels[:1])]
        for convolution in read:  # untrained maps are nearly constant
            nn.init.normal_(convolution.weight, std=0.01)
        self.read = nn.ModuleList(read)

    def forward(self, features: Features, guide: Tensor | None = None) -> tuple[list[Tensor], Tensor]:
        """Return the stages' output maps, coarse to fine, and the features that the finest were read off.

        The guide, of the finest map's size, is added to the input of the last refinement block.
        """
        maps = features.maps[::-1]
        x = self.context(maps[0].mean((-2, -1)))[..., None, None].expand(-1, -1, *maps[0].shape[-2:])
        stages: list[Tensor] = []
        for fine, enter, attend, leave in zip(maps, self.enter, self.attend, self.leave, strict=True):
            x = nn.functional.interpolate(x, fine.shape[-2:], mode="bilinear", align_corners=False)
            x = attend(enter(fine), x)
            if guide is not None and len(stages) == len(maps) - 1:
                x = x + guide
            x = leave(x)
            stages.append(x)
        return [read(x) for read, x in zip(self.read, stages[-len(self.read) :], strict=True)], x
