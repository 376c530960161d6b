"""The head interface: features in, a pose out, and the losses that train it."""

from abc import ABC, abstractmethod
from typing import Any, Generic

from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import TypeVar

from kpose.recipe import Recorded
from kpose.structures import Batch, Camera, Features, PosePrediction

__all__ = ["PoseHead"]

PredictionT = TypeVar("PredictionT", bound=PosePrediction, default=Any)


class PoseHead(Recorded, nn.Module, ABC, Generic[PredictionT]):
    """Map image features to a pose, and score that pose against a batch.

    A head is built from the `FeatureSpec` of the backbone it sits on and the `Template` of the category, by
    position. It is registered nowhere: any class will do. `kpose.testing.check_pose_head` checks that it keeps the
    rules.

    Example:
        >>> import torch
        >>> from kpose.structures import FeatureSpec
        >>> class ScaleHead(PoseHead):
        ...     supervision = frozenset({"camera"})
        ...     def __init__(self, spec, template):
        ...         super().__init__()
        ...         self.layer = nn.Linear(spec.channels[-1], 1)
        ...     def forward(self, features, vertices=None):
        ...         scale = self.layer(features.maps[-1].mean((2, 3)))[:, 0].exp()
        ...         rotation = torch.eye(3).expand(len(scale), 3, 3)
        ...         return PosePrediction(Camera(scale, torch.zeros(len(scale), 2), rotation))
        ...     def losses(self, prediction, batch):
        ...         return {"scale": (prediction.camera.scale - batch["camera"].scale).square().mean()}
        >>> head = ScaleHead(FeatureSpec(channels=(8,), strides=(4,)), None)
        >>> head(Features((torch.rand(2, 8, 4, 4),))).camera.scale.shape
        torch.Size([2])
    """

    supervision: frozenset[str] = frozenset()
    """Batch entries that `losses` reads; the task checks them and names what is missing."""

    reads_shapes: bool = False
    """Whether poses depend on the ``vertices`` that `forward` is given."""

    @abstractmethod
    def forward(self, features: Features, vertices: Float[Tensor, "batch V 3"] | None = None) -> PredictionT:
        """Predict a pose for every image of the batch.

        Args:
            features: Feature pyramid of the backbone.
            vertices: Shape of the object in each image, in the template's vertex order; the template itself when
                not given. Heads that need no shape ignore it.

        Returns:
            A camera in normalized coordinates of the crop, and whatever else the head knows.
        """

    @abstractmethod
    def losses(self, prediction: PredictionT, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Score predictions against a batch.

        Args:
            prediction: Output of `forward` for this batch.
            batch: At least the entries that ``supervision`` names.

        Returns:
            Named scalars, already weighted; the task adds and logs them.
        """

    def camera_of(self, prediction: PredictionT) -> Camera:
        """Return the camera of a prediction in a differentiable way.

        Args:
            prediction: Output of `forward`.

        Returns:
            The same camera as ``prediction.camera``. A head whose `forward` cuts the gradients of its camera gives
            them here.
        """
        return prediction.camera
