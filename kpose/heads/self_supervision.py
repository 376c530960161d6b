"""The self-supervision block: heatmaps and weights of keypoints from a shape and its camera, without annotation."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kpose.geometry import project, to_image_frame
from kpose.geometry._heatmap import gaussian_heatmaps
from kpose.geometry._mesh import edges
from kpose.rendering import HardRenderer
from kpose.rendering._visibility import nearest_face
from kpose.structures import Camera, Mesh, Template

__all__ = ["SelfSupervision"]


def _label_faces(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], indices: Int[Tensor, "N"]
) -> Int[Tensor, "F"]:
    """Assign every face to its nearest keypoint, or the first: the parts of the label texture."""
    # Along the edges of the mesh, so that a part does not reach through a thin wing or tail to the other side.
    distances = _surface_distances(vertices, faces, indices)
    return distances[:, faces].mean(-1).argmin(0)


def _surface_distances(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], sources: Int[Tensor, "N"]
) -> Float[Tensor, "N V"]:
    """Measure the shortest paths along edges from sources to all vertices; infinite where there is none."""
    pairs = edges(faces)
    start, end = torch.cat((pairs, pairs.flip(-1))).unbind(-1)
    length = (vertices[start] - vertices[end]).norm(dim=-1)
    distance = vertices.new_full((len(sources), len(vertices)), torch.inf)
    distance.scatter_(1, sources[:, None], 0.0)
    # Paths grow by one edge a round (Bellman-Ford), until no round shortens any.
    while True:
        reached = distance[:, start] + length
        shorter = distance.scatter_reduce(1, end.expand_as(reached), reached, "amin")
        if torch.equal(shorter, distance):
            return distance
        distance = shorter


class SelfSupervision(nn.Module):
    """Make proxy heatmaps ``S_h`` and weights ``S_w`` of keypoints from a shape and the camera that sees it.

    The keypoints are projected by the camera. A Gaussian around each is its heatmap. For the weights the shape is
    rendered hard, without blending, light or anti-aliasing, in a label texture: faces carry the number of their
    nearest keypoint, where the paper has a color for each. A keypoint counts if its projection shows its own.
    `visibility` is another measure, which needs no labels.

    Args:
        template: Mean shape of the category, on which the label texture is painted.
        indices: Vertices of the template that are keypoints.
        sigma: Standard deviation of the Gaussians, in normalized units. On coarse maps it is half a cell at least,
            since a narrower Gaussian would fall between the cells.
        resolution: Side of the rendered label texture, in pixels.

    Attributes:
        indices: The keypoints.
        faces: The template's faces.
        labels: For each face, its keypoint by distance along the surface.

    Source:
        Gharaee et al. 2022, Equations 4 and 5.

    Example:
        >>> from kpose.templates import bird
        >>> block = SelfSupervision(bird(), torch.tensor([0, 100, 200]))
        >>> above = Camera(torch.tensor([0.8]), torch.zeros(1, 2), torch.diag(torch.tensor([1.0, -1, -1]))[None])
        >>> keypoints = block.project(bird().vertices[None], above)
        >>> block.heatmaps(keypoints, (16, 16)).shape, block.weights(bird().vertices[None], above).shape
        (torch.Size([1, 3, 16, 16]), torch.Size([1, 3]))
    """

    indices: Tensor
    faces: Tensor
    labels: Tensor

    def __init__(
        self, template: Template, indices: Int[Tensor, "N"], *, sigma: float = 0.05, resolution: int = 128
    ) -> None:
        super().__init__()
        self.sigma = sigma
        self.resolution = resolution
        self.renderer = HardRenderer()
        self.register_buffer("indices", indices)
        self.register_buffer("faces", template.faces.clone(), persistent=False)
        self.register_buffer("labels", _label_faces(template.vertices, template.faces, indices))

    def project(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Float[Tensor, "batch N 2"]:
        """Project the keypoints of each shape."""
        return project(vertices[:, self.indices], camera)

    def heatmaps(
        self, keypoints: Float[Tensor, "batch N 2"], size: tuple[int, int]
    ) -> Float[Tensor, "batch N h w"]:
        """Draw ``S_h`` (Equation 4).

        Args:
            keypoints: Places of the keypoints.
            size: Height and width of the maps.

        Returns:
            One Gaussian of height 1 for each.
        """
        return gaussian_heatmaps(keypoints, size, max(self.sigma, 1 / min(size)))

    def label_map(
        self, vertices: Float[Tensor, "batch V 3"], camera: Camera, size: int | tuple[int, int] | None = None
    ) -> Int[Tensor, "batch H W"]:
        """Render which keypoint's part each pixel shows.

        Args:
            vertices: Shapes.
            camera: Cameras.
            size: Side, or height and width, of the image; ``resolution`` when not given.

        Returns:
            Position of the keypoint in ``indices``, -1 on the background.
        """
        with torch.no_grad():
            mesh = Mesh(vertices, self.faces)
            face = self.renderer.render(mesh, camera, self.resolution if size is None else size).face_index
            return torch.where(face >= 0, self.labels[face.clamp_min(0)], -1)

    def shown(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Int[Tensor, "batch N"]:
        """Report whose part each keypoint's projection shows, as `label_map` does; -1 outside the image as well."""
        keypoints = self.project(vertices, camera)
        inside = (keypoints.abs() < 1).all(-1)
        # Nearest sampling: the pixel that a projection lies in, with no blending of labels at borders.
        cell = ((keypoints.clamp(-1, 1) + 1) / 2 * self.resolution).floor().clamp_max(self.resolution - 1)
        center = (2 * cell + 1) / self.resolution - 1
        face, _ = nearest_face(Mesh(vertices, self.faces), camera, center)
        return torch.where(inside & (face >= 0), self.labels[face.clamp_min(0)], -1)

    def weights(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Bool[Tensor, "batch N"]:
        """Compute ``S_w``: whether each keypoint's projection shows its own part (Equation 5)."""
        shown = self.shown(vertices, camera)
        return shown == torch.arange(shown.shape[-1], device=shown.device)

    def visibility(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Bool[Tensor, "batch N"]:
        """Compute which keypoints are inside the image and not behind a face that they are no corner of."""
        seen = to_image_frame(vertices[:, self.indices], camera)
        face, depth = nearest_face(Mesh(vertices, self.faces), camera, seen[..., :2])
        own = (self.faces[face.clamp_min(0)] == self.indices[:, None]).any(-1)
        return (own | (depth >= seen[..., 2])) & (seen[..., :2].abs() <= 1).all(-1)
