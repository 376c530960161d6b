"""The border network, which learns where one thing ends, and the targets that it can be given."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kpose.heads.self_supervision import SelfSupervision
from kpose.heads.smooth import RefinementBlock
from kpose.recipe import Recorded
from kpose.structures import Batch, Features, FeatureSpec

__all__ = ["BorderNetwork", "BorderTarget", "LabelBorder", "MaskBorder"]


class BorderNetwork(nn.Module):
    """Sum up a feature pyramid from its finest map to its coarsest and read a border off every stage.

    Bottom-up, against the direction of the smooth network: the fine maps say where edges are, the coarse ones which
    of them are borders.

    Args:
        spec: What the backbone gives.
        width: Channels inside the network.

    Source:
        Yu et al., Learning a Discriminative Feature Network for Semantic Segmentation, CVPR 2018, section 3.2.
    """

    def __init__(self, spec: FeatureSpec, width: int = 16) -> None:
        super().__init__()
        self.enter = nn.ModuleList(RefinementBlock(source, width) for source in spec.channels)
        self.leave = nn.ModuleList(RefinementBlock(width, width) for _ in spec.channels)
        self.read = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in spec.channels)

    def forward(self, features: Features) -> tuple[list[Tensor], Tensor]:
        """Compute the borders.

        Args:
            features: What the backbone gives.

        Returns:
            Logits ``(batch, h, w)`` of the border after every stage, at the size of the finest feature map, and
            the features ``(batch, width, h, w)`` that the last were read off.
        """
        size = features.maps[0].shape[-2:]
        x = features.maps[0].new_zeros(())
        logits = []
        for maps, enter, leave, read in zip(features.maps, self.enter, self.leave, self.read, strict=True):
            fine = nn.functional.interpolate(enter(maps), size, mode="bilinear", align_corners=False)
            x = leave(x + fine)
            logits.append(read(x).squeeze(1))
        return logits, x


class BorderTarget(Recorded, ABC):
    """What the border network is asked for."""

    supervision: ClassVar[frozenset[str]]
    """Batch entries that are read."""

    @abstractmethod
    def draw(
        self, block: SelfSupervision, vertices: Float[Tensor, "batch V 3"], batch: Batch, size: tuple[int, int]
    ) -> Float[Tensor, "batch h w"]:
        """Draw the borders of a batch.

        Args:
            block: Knows the keypoints and their parts of the shape.
            vertices: Shape of the object in each image.
            batch: At least the entries that ``supervision`` names.
            size: Height and width of the maps.

        Returns:
            1 in the cells that a border passes through, 0 elsewhere.
        """


class MaskBorder(BorderTarget):
    """The outline of the annotated mask."""

    supervision = frozenset({"mask"})

    def draw(
        self, block: SelfSupervision, vertices: Float[Tensor, "batch V 3"], batch: Batch, size: tuple[int, int]
    ) -> Float[Tensor, "batch h w"]:
        """Draw the outline; where the image cuts the object off there is none."""
        return _pool(_edges(batch["mask"].long()), size)


class LabelBorder(BorderTarget):
    """The edges of the rendered label texture: outline and borders of the keypoints' parts, from the camera alone.

    Args:
        pixels: Rendered pixels along each side of a cell.
    """

    supervision = frozenset({"camera"})

    def __init__(self, pixels: int = 4) -> None:
        self.pixels = pixels

    def draw(
        self, block: SelfSupervision, vertices: Float[Tensor, "batch V 3"], batch: Batch, size: tuple[int, int]
    ) -> Float[Tensor, "batch h w"]:
        """Render the label texture as the batch's cameras see it and draw its edges."""
        fine = (size[0] * self.pixels, size[1] * self.pixels)
        return _pool(_edges(block.label_map(vertices, batch["camera"], fine)), size)


def _edges(labels: Int[Tensor, "batch H W"]) -> Bool[Tensor, "batch H W"]:
    """Mark the pixels on both sides of a change, across rows and columns."""
    edges = torch.zeros_like(labels, dtype=torch.bool)
    for dim in (1, 2):
        length = labels.shape[dim] - 1
        change = labels.narrow(dim, 1, length) != labels.narrow(dim, 0, length)
        edges.narrow(dim, 1, length).logical_or_(change)
        edges.narrow(dim, 0, length).logical_or_(change)
    return edges


def _pool(edges: Bool[Tensor, "batch H W"], size: tuple[int, int]) -> Float[Tensor, "batch h w"]:
    return nn.functional.adaptive_max_pool2d(edges.float()[:, None], size).squeeze(1)
