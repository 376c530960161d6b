"""Values that travel between the parts of kpose.

Everything here is plain data: named tuples of tensors, so that PyTorch's collation, Lightning's device
transfer and ``torch.compile`` handle them without help. Indexing a named tuple gives a field; ``at`` gives the same
rows of all fields. Shapes are in the field comments; the conventions
(frames, units, signs) are on the page ``docs/conventions.md``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "Batch",
    "Camera",
    "Crop",
    "Domain",
    "FeatureSpec",
    "Features",
    "Mesh",
    "PerspectiveCamera",
    "PosePrediction",
    "Rendering",
    "Shape",
    "Template",
]


class Camera(NamedTuple):
    """Weak-perspective camera: ``u = scale * (rotation @ X)_xy + translation``.

    The unit of ``scale`` and ``translation`` is that of the image frame the camera belongs to: normalized
    coordinates of a crop (corners at ±1) or pixels of a photo. ``x`` points right, ``y`` down, ``z`` away
    from the viewer.

    Example:
        >>> camera = Camera(torch.ones(4), torch.zeros(4, 2), torch.eye(3).expand(4, 3, 3))
        >>> camera.at([0, 2]).translation.shape
        torch.Size([2, 2])
    """

    scale: Float[Tensor, "*batch"]
    """Image units per object unit, positive."""
    translation: Float[Tensor, "*batch 2"]
    """Image position of the object's origin."""
    rotation: Float[Tensor, "*batch 3 3"]
    """Object frame to camera frame, determinant +1."""

    def at(self, rows: Any) -> "Camera":  # noqa: ANN401 - whatever indexes a tensor
        """Return the cameras at an index of the leading dimensions."""
        return self.map(lambda part: part[rows])

    def detach(self) -> "Camera":
        """Return the same cameras without gradients."""
        return self.map(Tensor.detach)

    def to(self, *args: Any, **kwargs: Any) -> "Camera":  # noqa: ANN401 - those of `Tensor.to`
        """Return the same cameras on another device or of another dtype, as `torch.Tensor.to`."""
        return self.map(lambda part: part.to(*args, **kwargs))

    def where(self, condition: Bool[Tensor, "*batch"], other: "Camera") -> "Camera":
        """Return these cameras where a condition holds, and others elsewhere."""
        return Camera(
            torch.where(condition, self.scale, other.scale),
            torch.where(condition[..., None], self.translation, other.translation),
            torch.where(condition[..., None, None], self.rotation, other.rotation),
        )

    def map(self, function: Callable[[Tensor], Tensor]) -> "Camera":
        """Return the cameras whose fields a function gives from these."""
        return Camera(*(function(part) for part in self))


class PerspectiveCamera(NamedTuple):
    """Pinhole camera: ``u = focal * (X_c)_xy / (X_c)_z + principal`` with ``X_c = rotation @ X + translation``.

    Example:
        >>> camera = PerspectiveCamera(torch.ones(2), torch.zeros(2), torch.eye(3), torch.tensor([0.0, 0.0, 10.0]))
        >>> camera.focal.shape, camera.translation.shape
        (torch.Size([2]), torch.Size([3]))
    """

    focal: Float[Tensor, "*batch 2"]
    """Focal lengths in image units."""
    principal: Float[Tensor, "*batch 2"]
    """Principal point in image units."""
    rotation: Float[Tensor, "*batch 3 3"]
    """Object frame to camera frame, determinant +1."""
    translation: Float[Tensor, "*batch 3"]
    """Object's origin in the camera frame, in object units."""


class Crop(NamedTuple):
    """Similarity from the frame (pixels of the photo) to a crop: ``u_crop = scale * u_frame + translation``.

    Example:
        >>> crop = Crop(torch.tensor(0.02), torch.tensor([-1.0, -1.0]))  # a photo of 100 pixels, whole
        >>> crop.scale * torch.tensor([100.0, 50.0]) + crop.translation
        tensor([1., 0.])
    """

    scale: Float[Tensor, "*batch"]
    """Normalized crop units per photo pixel: ``2 / side`` for a square crop of ``side`` pixels."""
    translation: Float[Tensor, "*batch 2"]
    """Crop position of the photo's origin (the top-left corner of its first pixel)."""

    def at(self, rows: Any) -> "Crop":  # noqa: ANN401 - whatever indexes a tensor
        """Return the crops at an index of the leading dimensions."""
        return Crop(self.scale[rows], self.translation[rows])


class Mesh(NamedTuple):
    """Batch of triangle meshes that share their faces, with one appearance or none.

    Example:
        >>> corners = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> meshes = Mesh(corners.expand(4, 3, 3), torch.tensor([[0, 1, 2]]))
        >>> meshes.at(0).vertices.shape  # faces are shared
        torch.Size([3, 3])
    """

    vertices: Float[Tensor, "*batch V 3"]
    """Positions in the object frame."""
    faces: Int[Tensor, "F 3"]
    """Vertex indices, counter-clockwise seen from outside."""
    uv: Float[Tensor, "T 2"] | None = None
    """Texture coordinates in [0, 1]: u to the right, v down, so that (0, 0) is the texture's first corner."""
    uv_faces: Int[Tensor, "F 3"] | None = None
    """For each face corner, its row in ``uv`` (rows may differ from vertices along the seam)."""
    texture: Float[Tensor, "*batch 3 h w"] | None = None
    """RGB texture image in [0, 1]; needs ``uv`` and ``uv_faces``."""
    vertex_colors: Float[Tensor, "*batch V 3"] | None = None
    """RGB colors in [0, 1]; exclusive with ``texture``."""

    def at(self, rows: Any) -> "Mesh":  # noqa: ANN401 - whatever indexes a tensor
        """Return the meshes at an index of the leading dimensions."""
        changed = {name: value[rows] for name in _BATCHED if (value := getattr(self, name)) is not None}
        return self._replace(**changed)

    def detach(self) -> "Mesh":
        """Return the same meshes without gradients."""
        return self._map(Tensor.detach)

    def to(self, *args: Any, **kwargs: Any) -> "Mesh":  # noqa: ANN401 - those of `Tensor.to`
        """Return the same meshes on another device, or their floating-point fields in another dtype.

        Arguments are those of `torch.Tensor.to`.
        """
        moved = self._map(lambda part: part.to(*args, **kwargs))
        indices = {
            name: value.to(moved.vertices.device) for name in _INDICES if (value := getattr(self, name)) is not None
        }
        return moved._replace(**indices)

    def _map(self, function: Callable[[Tensor], Tensor]) -> "Mesh":
        return Mesh(*(None if part is None else function(part) for part in self))  # type: ignore[arg-type]


_BATCHED = ("vertices", "texture", "vertex_colors")
_INDICES = ("faces", "uv_faces")


class Template(NamedTuple):
    """Mean shape of a category, mirror-symmetric about ``x = 0``.

    Example:
        >>> from kpose.templates import bird
        >>> template = bird()
        >>> template.vertices.shape, template.part_names[:2]
        (torch.Size([642, 3]), ('back', 'beak'))
    """

    vertices: Float[Tensor, "V 3"]
    """Positions in the object frame."""
    faces: Int[Tensor, "F 3"]
    """Vertex indices, counter-clockwise seen from outside; closed, genus 0."""
    uv: Float[Tensor, "T 2"]
    """Spherical texture coordinates in [0, 1] (see `Mesh.uv`)."""
    uv_faces: Int[Tensor, "F 3"]
    """For each face corner, its row in ``uv``."""
    mirror: Int[Tensor, "V"]
    """For each vertex, its mirror partner; itself on the symmetry plane."""
    part_names: tuple[str, ...]
    """Names of the parts."""
    part_vertices: Int[Tensor, "P"]
    """For each part, the vertex that stands for it."""


class Shape(NamedTuple):
    """Shape and appearance predicted for a batch of images, in the vertex order of the template.

    Example:
        >>> Shape(torch.zeros(2, 642, 3), torch.zeros(2, 642, 3), torch.rand(2, 3, 64, 128)).texture.shape
        torch.Size([2, 3, 64, 128])
    """

    vertices: Float[Tensor, "batch V 3"]
    """Mean shape plus deformation, symmetric about ``x = 0``."""
    deformation: Float[Tensor, "batch V 3"]
    """Offsets from the mean shape."""
    texture: Float[Tensor, "batch 3 h w"]
    """RGB texture image in [0, 1] (see `Mesh.texture`)."""


class Rendering(NamedTuple):
    """What a renderer gives for a batch of meshes.

    Example:
        >>> from kpose.rendering import HardRenderer
        >>> from kpose.templates import bird, template_mesh
        >>> camera = Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3))
        >>> seen = HardRenderer().render(template_mesh(bird()), camera, 16)
        >>> seen.mask.shape, seen.barycentrics.shape
        (torch.Size([16, 16]), torch.Size([16, 16, 3]))
    """

    mask: Float[Tensor, "*batch H W"]
    """Silhouette in [0, 1]."""
    depth: Float[Tensor, "*batch H W"]
    """Camera-frame depth of the nearest surface, in image units (``scale * z``), +inf where there is none."""
    face_index: Int[Tensor, "*batch H W"]
    """Nearest face at the pixel's center, -1 where there is none."""
    barycentrics: Float[Tensor, "*batch H W 3"]
    """Position of the pixel's center within that face, zero where there is none."""
    rgb: Float[Tensor, "*batch 3 H W"] | None = None
    """Colors in [0, 1] on a black background, when the mesh has an appearance."""


class FeatureSpec(NamedTuple):
    """What a backbone gives: one entry for each feature map, fine to coarse.

    Example:
        >>> FeatureSpec(channels=(64, 128), strides=(4, 8)).channels[-1]
        128
    """

    channels: tuple[int, ...]
    """Channels of each map."""
    strides: tuple[int, ...]
    """Image pixels per cell of each map."""


class Features(NamedTuple):
    """Feature pyramid of a batch of images.

    Example:
        >>> features = Features((torch.zeros(2, 8, 16, 16), torch.zeros(2, 16, 8, 8)))
        >>> features.at([0]).maps[1].shape
        torch.Size([1, 16, 8, 8])
    """

    maps: tuple[Float[Tensor, "batch _ _ _"], ...]
    """Feature maps, fine to coarse, as the backbone's `FeatureSpec` says."""

    def at(self, rows: Any) -> "Features":  # noqa: ANN401 - whatever indexes a tensor
        """Return the maps of the images at an index."""
        return self.map(lambda maps: maps[rows])

    def detach(self) -> "Features":
        """Return the same maps without gradients."""
        return self.map(Tensor.detach)

    def to(self, *args: Any, **kwargs: Any) -> "Features":  # noqa: ANN401 - those of `Tensor.to`
        """Return the same maps on another device or of another dtype, as `torch.Tensor.to`."""
        return self.map(lambda maps: maps.to(*args, **kwargs))

    def map(self, function: Callable[[Tensor], Tensor]) -> "Features":
        """Return the pyramid whose maps a function gives from these."""
        return Features(tuple(function(maps) for maps in self.maps))


@dataclass
class PosePrediction:
    """Pose that a head predicts; a head that knows more subclasses it.

    Not frozen, as Lightning moves the fields of what `Trainer.predict` collects.

    Example:
        >>> PosePrediction(Camera(torch.ones(2), torch.zeros(2, 2), torch.eye(3).expand(2, 3, 3))).camera.scale
        tensor([1., 1.])
    """

    camera: Camera
    """Weak-perspective camera of the crop."""


class Domain(NamedTuple):
    """What a network was trained on, and so what it can be trusted with.

    Example:
        >>> print(Domain("photographs of birds", "bird", "CUB-200-2011", "no pose labels"))
        photographs of birds (CUB-200-2011, no pose labels)
    """

    pictures: str
    """Kind of the pictures, in the plural."""
    category: str
    """What they show, as segmenters call it."""
    data: str
    """Name of the data."""
    labels: str = "no labels"
    """Where the poses that it learned come from."""

    def __str__(self) -> str:
        """Return a phrase."""
        return f"{self.pictures} ({self.data}, {self.labels})"


class Batch(TypedDict, total=False):
    """Entries a data module may put into a batch; heads and tasks declare those that they read.

    Example:
        >>> batch = Batch(image=torch.rand(2, 3, 64, 64), mask=torch.ones(2, 64, 64) > 0)
        >>> sorted(batch)
        ['image', 'mask']
    """

    image: Float[Tensor, "batch 3 H W"]
    """RGB in [0, 1]."""
    features: Features
    """What a frozen backbone gave for the image, where that has been computed before."""
    mask: Bool[Tensor, "batch H W"]
    """Annotated silhouette."""
    camera: Camera
    """Camera of the crop: annotation, structure from motion or another source."""
    vertices: Float[Tensor, "batch V 3"]
    """True shape of the object, in the template's vertex order (synthetic data only)."""
    parts: Float[Tensor, "batch P 2"]
    """Annotated parts in normalized coordinates; zero where not visible."""
    parts_visible: Bool[Tensor, "batch P"]
    """Which parts are annotated as visible."""
    crop: Crop
    """Map from the photo's pixels to the crop."""
    flipped: Bool[Tensor, "batch"]
    """Whether the crop was mirrored (after ``crop`` was applied)."""
    index: Int[Tensor, "batch"]
    """Identity of the image in its data set."""
