"""What predicts, without what trains it: backbone, pose head and, where shapes are learned, mesh reconstructor."""

from collections.abc import Callable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kpose.backbones import Backbone
from kpose.heads import PoseHead
from kpose.reconstruction import MeshReconstructor
from kpose.structures import Features, FeatureSpec, PosePrediction, Shape, Template
from kpose.templates import bird, load_template

__all__ = ["PoseNetwork"]


class PoseNetwork(nn.Module):
    """Predict the pose of the object in every image, and its shape where there is a reconstructor.

    The reconstructor comes from stage 2 and is never trained here, nor is then the backbone, whose features it
    knows: poses are learned for the shapes that it predicts. Without one the shape of every object is the template.

    Args:
        backbone: Where the features come from.
        head: Builds the head from the backbone's `FeatureSpec`; a head class is such a callable.
        template: File of the category's mean shape; when None, that of the head if it is built on one, else the
            built-in bird.
        reconstructor: Builds the network that predicts shapes and textures from the backbone's `FeatureSpec` and
            the template; None takes the template for the shape.

    Raises:
        ValueError: If the head is built on another template.

    Attributes:
        template: The mean shape that everything is built on.
        vertices: The template's vertices, on the module's device.
        faces: The template's faces.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.heads import QuaternionHead
        >>> network = PoseNetwork(TinyBackbone(width=8), QuaternionHead, reconstructor=MeshReconstructor)
        >>> features = network.backbone(torch.zeros(2, 3, 64, 64))
        >>> network.shapes(features).shape, network.pose(features).camera.rotation.shape
        (torch.Size([2, 642, 3]), torch.Size([2, 3, 3]))
    """

    vertices: Tensor
    faces: Tensor

    def __init__(
        self,
        backbone: Backbone,
        head: Callable[[FeatureSpec], PoseHead],
        *,
        template: Path | None = None,
        reconstructor: Callable[[FeatureSpec, Template], MeshReconstructor] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone if reconstructor is None else backbone.freeze()
        self.head = head(backbone.spec)
        self.template: Template = (self.head.template or bird()) if template is None else load_template(template)
        _check_template(self.head, self.template)
        self.register_buffer("vertices", self.template.vertices, persistent=False)
        self.register_buffer("faces", self.template.faces, persistent=False)
        self.reconstructor: MeshReconstructor | None = None
        if reconstructor is not None:
            self.reconstructor = reconstructor(backbone.spec, self.template).requires_grad_(False)

    def train(self, mode: bool = True) -> "PoseNetwork":
        """Switch between training and evaluation; the reconstructor stays in evaluation.

        Args:
            mode: Whether to train.

        Returns:
            The network itself.
        """
        super().train(mode)
        if self.reconstructor is not None:
            self.reconstructor.train(False)
        return self

    def forward(
        self, image: Float[Tensor, "batch 3 H W"], vertices: Float[Tensor, "batch V 3"] | None = None
    ) -> PosePrediction:
        """Predict the pose of the object in every image.

        Args:
            image: RGB crops in [0, 1].
            vertices: Shape of the object in each image; that of `shapes` when not given.

        Returns:
            What the head predicts.
        """
        return self.pose(self.backbone(image), vertices)

    def pose(self, features: Features, vertices: Float[Tensor, "batch V 3"] | None = None) -> PosePrediction:
        """Predict poses from what the backbone gave.

        Args:
            features: Feature maps.
            vertices: Shape of the object in each image; that of `shapes` when not given.

        Returns:
            What the head predicts.
        """
        prediction: PosePrediction = self.head(features, self.shapes(features) if vertices is None else vertices)
        return prediction

    @torch.no_grad()
    def shapes(self, features: Features) -> Float[Tensor, "batch V 3"]:
        """Give the shape of the object in every image, without gradient and without its texture.

        Args:
            features: Feature maps.

        Returns:
            Vertices in the template's order: what the reconstructor predicts, else the template.
        """
        if self.reconstructor is None:
            return self.vertices.expand(len(features.maps[0]), -1, -1)
        return self.reconstructor.vertices(features)

    @torch.no_grad()
    def reconstruct(self, features: Features) -> Shape:
        """Predict shapes and textures.

        Args:
            features: Feature maps.

        Returns:
            Shapes and textures.

        Raises:
            ValueError: If there is no reconstructor.
        """
        if self.reconstructor is None:
            raise ValueError("PoseNetwork needs a reconstructor to predict shapes; it has none. Train stage 2.")
        shape: Shape = self.reconstructor(features)
        return shape


def _check_template(head: PoseHead, template: Template) -> None:
    if head.template is None or torch.equal(head.template.faces.cpu(), template.faces.cpu()):
        return
    raise ValueError(
        f"{type(head).__name__} needs the template that the network is built on, with {len(template.vertices)} "
        f"vertices and {len(template.faces)} faces; got one with {len(head.template.vertices)} and "
        f"{len(head.template.faces)}. Give the head the same file as its argument `template`."
    )
