"""Direct regression of a camera: one template for any representation of rotations, and three of them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kpose._precision import widened
from kpose.geometry import gram_schmidt, matrix_to_quaternion, procrustes, quaternion_to_matrix
from kpose.heads.base import PoseHead
from kpose.losses import chordal_distance, quaternion_distance
from kpose.structures import Batch, Camera, Features, FeatureSpec, PosePrediction, Template

__all__ = ["GramSchmidtHead", "ProcrustesHead", "QuaternionHead", "RotationHead", "RotationPrediction"]

START_SCALE = 0.75  # about the scale of an object of length 2 that fills its crop


@dataclass
class RotationPrediction(PosePrediction):
    """Camera with the numbers that its rotation was made from.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> backbone = TinyBackbone(width=8)
        >>> QuaternionHead(backbone.spec)(backbone(torch.rand(2, 3, 64, 64))).raw.shape
        torch.Size([2, 4])
    """

    raw: Float[Tensor, "batch R"]
    """Output of the network, in the head's own representation."""


class RotationHead(PoseHead[RotationPrediction]):
    """Regress a camera from the coarse feature maps; the base of all heads that regress rotations.

    A subclass states ``representation_size`` and implements `to_rotation`. The network keeps the layout of the
    image: each of the two coarsest maps is reduced by a 1×1 convolution and pooled to ``grid`` × ``grid`` cells,
    joined, and taken through two fully connected layers. Before training the head predicts about
    ``representation_start`` everywhere.

    Args:
        spec: Channels and strides of the backbone's feature maps.
        template: Mean shape of the category, which is given to every head; this one does not need it.
        width: Channels of a reduced map, and a quarter of the units of the hidden layers.
        grid: Cells along each side of a pooled map.
        rotation_weight: Weight of `rotation_loss`.
        scale_weight: Weight of the squared difference of scales.
        translation_weight: Weight of the squared distance of translations.

    Raises:
        TypeError: If a subclass states no ``representation_size``.

    Example:
        >>> from kpose.geometry import axis_angle_to_matrix
        >>> class AxisAngleHead(RotationHead):
        ...     representation_size = 3
        ...     def to_rotation(self, raw):
        ...         return axis_angle_to_matrix(raw)
        >>> from kpose.backbones import TinyBackbone
        >>> backbone = TinyBackbone(width=8)
        >>> AxisAngleHead(backbone.spec)(backbone(torch.rand(2, 3, 64, 64))).raw.shape
        torch.Size([2, 3])
    """

    supervision = frozenset({"camera"})
    representation_size: ClassVar[int]
    """How many numbers the network predicts for a rotation."""
    representation_start: ClassVar[Sequence[float] | None] = None
    """What an untrained head predicts: numbers from which every small turn can be reached; zeros when None."""

    def __init__(
        self,
        spec: FeatureSpec,
        template: Template | None = None,
        *,
        width: int = 64,
        grid: int = 4,
        rotation_weight: float = 1.0,
        scale_weight: float = 1.0,
        translation_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not hasattr(self, "representation_size"):
            raise TypeError(
                f"{type(self).__name__} needs a class attribute `representation_size`; it has none. "
                "State how many numbers `to_rotation` takes."
            )
        self.rotation_weight = rotation_weight
        self.scale_weight = scale_weight
        self.translation_weight = translation_weight
        channels = spec.channels[-2:]
        self.reduce = nn.ModuleList(_reduction(source, width, grid) for source in channels)
        hidden = 4 * width
        self.hidden = nn.Sequential(
            nn.Linear(len(channels) * width * grid**2, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.ReLU(),
        )
        self.output = nn.Linear(hidden, self.representation_size + 3)
        start = self.representation_start or (0.0,) * self.representation_size
        with torch.no_grad():
            self.output.weight.mul_(0.1)
            self.output.bias.copy_(torch.tensor([*start, _inverse_softplus(START_SCALE), 0.0, 0.0]))

    @abstractmethod
    def to_rotation(self, raw: Float[Tensor, "*batch R"]) -> Float[Tensor, "*batch 3 3"]:
        """Map the network's numbers onto rotations.

        Args:
            raw: Any ``representation_size`` numbers.

        Returns:
            Rotation matrices, with finite gradients everywhere.
        """

    def rotation_loss(
        self, prediction: RotationPrediction, target: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch"]:
        """Measure how far the predicted rotations are from the target; override it for another distance.

        Args:
            prediction: Output of `forward`.
            target: Rotation matrices.

        Returns:
            One value for each image; here the chordal distance.
        """
        return chordal_distance(prediction.camera.rotation, target)

    def forward(self, features: Features, vertices: Float[Tensor, "batch V 3"] | None = None) -> RotationPrediction:
        """Predict a camera for every image; ``vertices`` are not needed."""
        maps = features.maps[-len(self.reduce) :]
        cells = [reduce(m).flatten(1) for reduce, m in zip(self.reduce, maps, strict=True)]
        output = widened(self.output(self.hidden(torch.cat(cells, 1))))
        raw, scale, translation = torch.split(output, [self.representation_size, 1, 2], -1)
        with torch.autocast(output.device.type, enabled=False):
            rotation = self.to_rotation(raw)
        scale = nn.functional.softplus(scale).squeeze(-1)
        return RotationPrediction(Camera(scale, translation, rotation), raw)

    def losses(self, prediction: RotationPrediction, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Compare camera with camera: rotation, scale and translation."""
        camera, target = prediction.camera, batch["camera"]
        with torch.autocast(target.scale.device.type, enabled=False):
            rotation = self.rotation_loss(prediction, target.rotation).mean()
            scale = (camera.scale - target.scale).square().mean()
            translation = (camera.translation - target.translation).square().sum(-1).mean()
        return {
            "rotation": self.rotation_weight * rotation,
            "scale": self.scale_weight * scale,
            "translation": self.translation_weight * translation,
        }


class QuaternionHead(RotationHead):
    """Regress a quaternion ``(w, x, y, z)``, trained with the continuous double-cover distance.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> backbone = TinyBackbone(width=8)
        >>> head = QuaternionHead(backbone.spec)
        >>> head(backbone(torch.rand(2, 3, 64, 64))).camera.rotation.shape
        torch.Size([2, 3, 3])
    """

    representation_size = 4
    representation_start = (1.0, 0.0, 0.0, 0.0)

    def to_rotation(self, raw: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
        """Normalize and convert."""
        return quaternion_to_matrix(raw)

    def rotation_loss(
        self, prediction: RotationPrediction, target: Float[Tensor, "batch 3 3"]
    ) -> Float[Tensor, "batch"]:
        """Measure the distance on the double cover."""
        unit = nn.functional.normalize(prediction.raw, dim=-1, eps=1e-6)
        return quaternion_distance(unit, matrix_to_quaternion(target))


class GramSchmidtHead(RotationHead):
    """Regress the first two columns of a rotation, made orthonormal by Gram-Schmidt.

    Source:
        Zhou et al., On the Continuity of Rotation Representations in Neural Networks, CVPR 2019.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> GramSchmidtHead(TinyBackbone(width=8).spec).to_rotation(torch.tensor([2.0, 0, 0, 1, 1, 0]))
        tensor([[1., 0., 0.],
                [0., 1., 0.],
                [0., 0., 1.]])
    """

    representation_size = 6
    representation_start = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    def to_rotation(self, raw: Float[Tensor, "*batch 6"]) -> Float[Tensor, "*batch 3 3"]:
        """Orthonormalize."""
        return gram_schmidt(raw)


class ProcrustesHead(RotationHead):
    """Regress a 3×3 matrix, projected onto the nearest rotation by singular value decomposition.

    Source:
        Levinson et al., An Analysis of SVD for Deep Rotation Estimation, NeurIPS 2020.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> rotation = ProcrustesHead(TinyBackbone(width=8).spec).to_rotation(torch.randn(9))
        >>> bool(torch.allclose(rotation @ rotation.mT, torch.eye(3), atol=1e-5))
        True
    """

    representation_size = 9
    representation_start = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)

    def to_rotation(self, raw: Float[Tensor, "*batch 9"]) -> Float[Tensor, "*batch 3 3"]:
        """Project, reading the nine numbers row by row."""
        return procrustes(raw.reshape(*raw.shape[:-1], 3, 3))


def _reduction(source: int, width: int, grid: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(source, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(grid)
    )


def _inverse_softplus(value: float) -> float:
    return float(torch.tensor(value).expm1().log())
