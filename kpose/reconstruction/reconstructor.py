"""The mesh reconstructor: features of one photo to the shape and the texture of what it shows."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from kpose.recipe import Recorded
from kpose.reconstruction.shape import MeanShape, ShapeHead
from kpose.reconstruction.texture import TextureHead
from kpose.structures import Features, FeatureSpec, Mesh, Shape, Template

__all__ = ["MeshReconstructor"]


class MeshReconstructor(Recorded, nn.Module):
    """Predict shape and texture: the learned mean shape plus a predicted deformation, and a decoded texture image.

    Args:
        spec: What the backbone gives.
        template: Mean shape at the start, faces and texture coordinates.
        shape: Builds the head of deformations from the spec and the template.
        texture: Builds the head of textures from the spec and the template.

    Attributes:
        mean_shape: Module that gives the learned mean shape.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020.

    Example:
        >>> import torch
        >>> from kpose.templates import bird
        >>> reconstructor = MeshReconstructor(FeatureSpec((8,), (32,)), bird())
        >>> shape = reconstructor(Features((torch.zeros(2, 8, 2, 2),)))
        >>> reconstructor.mesh(shape).texture.shape
        torch.Size([2, 3, 128, 256])
    """

    faces: Tensor
    uv: Tensor
    uv_faces: Tensor

    def __init__(
        self,
        spec: FeatureSpec,
        template: Template,
        *,
        shape: Callable[[FeatureSpec, Template], nn.Module] = ShapeHead,
        texture: Callable[[FeatureSpec, Template], nn.Module] = TextureHead,
    ) -> None:
        super().__init__()
        self.mean_shape = MeanShape(template)
        self.shape = shape(spec, template)
        self.texture = texture(spec, template)
        for name in ("faces", "uv", "uv_faces"):
            self.register_buffer(name, getattr(template, name), persistent=False)

    def forward(self, features: Features) -> Shape:
        """Reconstruct the object of every image.

        Args:
            features: What the backbone gives.

        Returns:
            Shapes and textures.
        """
        deformation = self.shape(features)
        return Shape(self.mean_shape() + deformation, deformation, self.texture(features))

    def vertices(self, features: Features) -> Float[Tensor, "batch V 3"]:
        """Reconstruct shapes only, which saves most of the time.

        Args:
            features: What the backbone gives.

        Returns:
            The vertices that `forward` would give.
        """
        vertices: Tensor = self.mean_shape() + self.shape(features)
        return vertices

    def mesh(self, shape: Shape) -> Mesh:
        """Make textured meshes.

        Args:
            shape: What `forward` gave.

        Returns:
            Meshes with the batch as leading dimension.
        """
        return Mesh(shape.vertices, self.faces, self.uv, self.uv_faces, shape.texture)
