"""The keypoint network: a smooth network for the heatmaps and, if wanted, a border network that guides it."""

from typing import NamedTuple

from torch import Tensor, nn

from kpose.heads.border import BorderNetwork
from kpose.heads.smooth import SmoothNetwork
from kpose.structures import Features, FeatureSpec

__all__ = ["KeypointMaps", "KeypointNetwork"]


class KeypointMaps(NamedTuple):
    """Output of a `KeypointNetwork`."""

    stages: tuple[Tensor, ...]
    """Maps ``(batch, outputs, h, w)``, coarse to fine; the last ones are the result, the others are there for deep
    supervision."""
    features: Tensor
    """Features ``(batch, width, h, w)`` that the last maps were read off."""
    borders: tuple[Tensor, ...] = ()
    """Logits ``(batch, h, w)`` of the border after every stage of the border network."""


class KeypointNetwork(nn.Module):
    """Compute one map for each keypoint from a feature pyramid.

    The border network's last features enter the finest stage of the smooth network, so what it has learnt from its
    own target shapes the heatmaps also where the backbone is frozen. Their way in starts at zero: an untrained
    border network changes nothing.

    Args:
        spec: What the backbone gives.
        outputs: Number of maps.
        width: Channels of the smooth network.
        deep: Whether every stage of the smooth network has maps.
        border_width: Channels of the border network; 0 for none.

    Source:
        Yu et al., Learning a Discriminative Feature Network for Semantic Segmentation, CVPR 2018; there the two
        networks meet in the backbone alone.
    """

    def __init__(
        self, spec: FeatureSpec, outputs: int, width: int = 64, *, deep: bool = False, border_width: int = 0
    ) -> None:
        super().__init__()
        self.border = BorderNetwork(spec, border_width) if border_width else None
        self.smooth = SmoothNetwork(spec, outputs, width, deep=deep, guide=border_width)

    def forward(self, features: Features) -> KeypointMaps:
        """Compute the maps."""
        borders, guide = ([], None) if self.border is None else self.border(features)
        stages, last = self.smooth(features, guide)
        return KeypointMaps(tuple(stages), last, tuple(borders))
