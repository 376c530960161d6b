"""A small residual network that trains from scratch in minutes on a CPU."""

from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from kpose.backbones.base import Backbone
from kpose.structures import FeatureSpec

__all__ = ["TinyBackbone"]


class TinyBackbone(Backbone):
    """Compute four feature maps (strides 4, 8, 16, 32) with one residual block each.

    Made for tests, demos and small images; for photographs take a pretrained `TransformersBackbone`.

    Args:
        width: Channels of the finest map; each coarser one has twice as many.

    Example:
        >>> import torch
        >>> backbone = TinyBackbone(width=8)
        >>> [tuple(m.shape[1:]) for m in backbone(torch.zeros(1, 3, 64, 64)).maps]
        [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]
    """

    def __init__(self, width: int = 32) -> None:
        channels = tuple(width * 2**i for i in range(4))
        super().__init__(FeatureSpec(channels, (4, 8, 16, 32)))
        self.stem = nn.Sequential(*_convolution(3, max(8, width // 2), stride=2))
        sources = (max(8, width // 2), *channels)
        self.stages = nn.ModuleList(
            nn.Sequential(*_convolution(source, target, stride=2), ResidualBlock(target))
            for source, target in pairwise(sources)
        )

    def pyramid(self, image: Float[Tensor, "batch 3 H W"]) -> tuple[Float[Tensor, "batch _ _ _"], ...]:
        """Run the stem and the four stages."""
        maps = []
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions around a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        return nn.functional.relu(x + self.body(x))


def _convolution(source: int, target: int, stride: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(source, target, 3, stride=stride, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(target), nn.ReLU()
