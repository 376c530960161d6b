"""The keypoint head of Gharaee et al. 2022: its values, its label texture and its border network."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from kornia.losses import binary_focal_loss_with_logits
from torch import Tensor, nn

from kpose._precision import widened
from kpose.heads.keypoint import KeypointHead, KeypointPrediction
from kpose.heads.self_supervision import SelfSupervision
from kpose.heads.smooth import RefinementBlock
from kpose.heads.solver import KeypointSolver
from kpose.losses import HeatmapLoss
from kpose.recipe import Recorded
from kpose.structures import Batch, Camera, Features, FeatureSpec, Template

__all__ = ["BorderTarget", "LabelBorder", "MaskBorder", "PaperKeypointHead"]


class _BorderNetwork(nn.Module):
    """Sum up a feature pyramid from its finest map to its coarsest and read a border off every stage.

    Bottom-up, against the direction of the smooth network: the fine maps say where edges are, the coarse ones which
    of them are borders.

    Source:
        Yu et al., Learning a Discriminative Feature Network for Semantic Segmentation, CVPR 2018, section 3.2.
    """

    def __init__(self, spec: FeatureSpec, width: int = 16) -> None:
        super().__init__()
        self.enter = nn.ModuleList(RefinementBlock(source, width) for source in spec.channels)
        self.leave = nn.ModuleList(RefinementBlock(width, width) for _ in spec.channels)
        self.read = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in spec.channels)

    def forward(self, features: Features) -> tuple[list[Tensor], Tensor]:
        """Return logits ``(batch, h, w)`` of each stage, as fine as the finest map, and the last one's features."""
        size = features.maps[0].shape[-2:]
        x = features.maps[0].new_zeros(())
        logits = []
        for maps, enter, leave, read in zip(features.maps, self.enter, self.leave, self.read, strict=True):
            fine = nn.functional.interpolate(enter(maps), size, mode="bilinear", align_corners=False)
            x = leave(x + fine)
            logits.append(read(x).squeeze(1))
        return logits, x


class BorderTarget(Recorded, ABC):
    """Target of the border network.

    Example:
        >>> class NoBorder(BorderTarget):
        ...     supervision = frozenset()
        ...     def draw(self, block, vertices, batch, size):
        ...         return vertices.new_zeros(len(vertices), *size)
        >>> NoBorder().supervision
        frozenset()
    """

    supervision: ClassVar[frozenset[str]]
    """Batch entries that are read."""

    @abstractmethod
    def draw(
        self, block: SelfSupervision, vertices: Float[Tensor, "batch V 3"], batch: Batch, size: tuple[int, int]
    ) -> Float[Tensor, "batch h w"]:
        """Draw the borders of a batch.

        Args:
            block: The keypoints and their parts of the shape.
            vertices: Shape of the object in each image.
            batch: At least the entries that ``supervision`` names.
            size: Height and width of the maps.

        Returns:
            1 in the cells that a border passes through, 0 elsewhere.
        """


class MaskBorder(BorderTarget):
    """The outline of the annotated mask.

    Example:
        >>> MaskBorder().supervision  # batches must have a mask
        frozenset({'mask'})
    """

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

    Example:
        >>> LabelBorder(pixels=2).supervision  # the camera is enough
        frozenset({'camera'})
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


@dataclass
class _PaperPrediction(KeypointPrediction):
    borders: tuple[Float[Tensor, "batch h w"], ...] = ()
    """Logits of the border after every stage of the border network."""


class PaperKeypointHead(KeypointHead):
    """Predict keypoints as in the paper: narrow Gaussians, label texture, border network.

    A border network beside the smooth network is asked for the border of the object after every stage, with a focal
    loss. Its last features enter the finest stage of the smooth network through a 1×1 convolution that starts at
    zero: the border shapes the heatmaps also where the backbone is frozen, and before training it changes nothing.
    The paper does not say how the two networks meet, nor what the border is.

    Args:
        spec: Channels and strides of the backbone.
        template: Mean shape of the category.
        num_keypoints: Number of points, which the paper does not give.
        width: Channels of the smooth network; the border network has a quarter of them.
        sigma: Standard deviation of the Gaussians, in normalized units; the paper's 0.05.
        occluded_weight: Weight of a keypoint out of sight; the paper's 0.
        label_weights: Whether the rendered label texture decides what is in sight (Equation 5), not the shape.
        border: Target of the border network: the mask's outline when None.
        border_weight: Weight of its loss.
        loss: As in `KeypointHead`.
        deep_weight: As in `KeypointHead`.
        confidence_weight: As in `KeypointHead`.
        solver: As in `KeypointHead`.
        reads_shapes: As in `KeypointHead`.

    Raises:
        ValueError: If ``border_weight`` is negative, or as `KeypointHead`.

    Source:
        Gharaee et al., Self-supervised Learning of Object Pose Estimation using Keypoint Prediction, 2022; border
        network: Yu et al., Learning a Discriminative Feature Network for Semantic Segmentation, CVPR 2018, where it
        meets the other in the backbone alone.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.templates import bird
        >>> head = PaperKeypointHead(TinyBackbone(width=8).spec, bird(), num_keypoints=16, width=16)
        >>> sorted(head.supervision)
        ['camera', 'mask']
    """

    def __init__(
        self,
        spec: FeatureSpec,
        template: Template,
        *,
        num_keypoints: int = 48,
        width: int = 64,
        sigma: float = 0.05,
        occluded_weight: float = 0.0,
        label_weights: bool = True,
        border: BorderTarget | None = None,
        border_weight: float = 1.0,
        loss: HeatmapLoss | None = None,
        deep_weight: float = 0.5,
        confidence_weight: float = 0.1,
        solver: KeypointSolver | None = None,
        reads_shapes: bool = True,
    ) -> None:
        super().__init__(
            spec,
            template,
            num_keypoints=num_keypoints,
            width=width,
            sigma=sigma,
            occluded_weight=occluded_weight,
            loss=loss,
            deep_weight=deep_weight,
            confidence_weight=confidence_weight,
            solver=solver,
            reads_shapes=reads_shapes,
        )
        if not border_weight >= 0:
            raise ValueError(f"PaperKeypointHead needs a border_weight of at least 0; got {border_weight}.")
        self.label_weights = label_weights
        self.border = MaskBorder() if border is None else border
        self.border_weight = border_weight
        self.supervision = self.supervision | self.border.supervision
        border_width = max(width // 4, 8)
        self.border_network = _BorderNetwork(spec, border_width)
        self.guide = nn.Conv2d(border_width, width, 1)
        for parameter in self.guide.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Features, vertices: Float[Tensor, "batch V 3"] | None = None) -> KeypointPrediction:
        """Predict borders and heatmaps; see `KeypointHead.forward`."""
        borders, seen = self.border_network(features)
        outputs, seen = self.network(features, self.guide(seen))
        prediction = self._read(outputs, seen, vertices)
        return _PaperPrediction(**vars(prediction), borders=tuple(widened(border) for border in borders))

    def losses(self, prediction: KeypointPrediction, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Compare heatmaps, as `KeypointHead` does, and borders."""
        assert isinstance(prediction, _PaperPrediction)
        losses = super().losses(prediction, batch)
        with torch.autocast(prediction.heatmaps.device.type, enabled=False):
            logits = torch.stack(prediction.borders, 1)
            vertices, size = prediction.vertices.detach(), (logits.shape[-2], logits.shape[-1])
            target = self.border.draw(self.self_supervision, vertices, batch, size)[:, None].expand_as(logits)
            loss = binary_focal_loss_with_logits(logits, target, reduction="mean")
        return losses | {"border": self.border_weight * loss}

    def visibility(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Bool[Tensor, "batch N"]:
        """Compute which keypoints are in sight, by the label texture or the shape, as ``label_weights`` says."""
        if self.label_weights:
            return self.self_supervision.weights(vertices, camera)
        return super().visibility(vertices, camera)
