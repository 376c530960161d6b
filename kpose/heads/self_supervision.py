"""The self-supervision block: heatmaps and weights of keypoints from a shape and its camera, without annotation."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kpose.geometry import edges, gaussian_heatmaps, project
from kpose.rendering import HardRenderer, vertex_visibility
from kpose.structures import Camera, Mesh, Template

__all__ = ["SelfSupervision"]


def _color_map(count: int) -> Float[Tensor, "count 3"]:
    """Choose colors on the coarsest regular RGB grid that has enough of them beside black, the background.

    Any two, and any one and black, are at least ``1 / (k - 1)`` apart, where ``k`` is the smallest number with
    ``k³ > count``: half for 26 colors, a third for 63, a quarter for 124.
    """
    side = 2
    while side**3 <= count:
        side += 1
    steps = torch.linspace(0, 1, side)
    return torch.cartesian_prod(steps, steps, steps)[1 : count + 1]


def _label_faces(
    vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"], indices: Int[Tensor, "N"]
) -> Int[Tensor, "F"]:
    """Assign every face of a shape to its nearest keypoint, the first of equals: the parts of the label texture.

    Near is measured along the edges of the mesh, so that a part does not reach through a thin wing or tail to the
    other side. Faces that no keypoint reaches go to the first.
    """
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
    rendered hard, without blending, light or anti-aliasing, in a label texture whose faces have the color of their
    nearest keypoint; a keypoint counts if the color at its projection is its own. Beside that stands its
    visibility by the z-buffer, which needs no colors.

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
        colors: Color of each keypoint on a regular grid.
        epsilon: Largest distance of a sampled color from a keypoint's own, half of the least distance of two.

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
    colors: Tensor

    def __init__(
        self, template: Template, indices: Int[Tensor, "N"], *, sigma: float = 0.05, resolution: int = 128
    ) -> None:
        super().__init__()
        self.sigma = sigma
        self.resolution = resolution
        self.renderer = HardRenderer()
        colors = _color_map(len(indices))
        self.epsilon = colors[0].norm().item() / 2  # the first color is the least distance from black
        self.register_buffer("indices", indices)
        self.register_buffer("faces", template.faces.clone(), persistent=False)
        self.register_buffer("labels", _label_faces(template.vertices, template.faces, indices))
        self.register_buffer("colors", colors, persistent=False)

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

    def label_texture(
        self, vertices: Float[Tensor, "batch V 3"], camera: Camera, size: int | tuple[int, int] | None = None
    ) -> Float[Tensor, "batch 3 H W"]:
        """Render the label texture ``T_l``: the colors of `label_map` on black."""
        colors = torch.cat((torch.zeros_like(self.colors[:1]), self.colors))
        return colors[self.label_map(vertices, camera, size) + 1].movedim(-1, 1)

    def correspondences(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Bool[Tensor, "batch N N"]:
        """Compare the colors sampled at the projections with those of the keypoints (Equation 5).

        Args:
            vertices: Shapes.
            camera: Cameras.

        Returns:
            For each projected keypoint (row) the keypoint whose color it shows, if any: a row has at most one
            entry, and none where the projection is outside the image or on the background.
        """
        texture = self.label_texture(vertices, camera)
        keypoints = self.project(vertices, camera)
        inside = (keypoints.abs() < 1).all(-1)
        # Nearest sampling: the pixel that a projection lies in, with no blending of colors at borders.
        cell = ((keypoints.clamp(-1, 1) + 1) / 2 * self.resolution).long()
        column, row = cell.clamp_max(self.resolution - 1).unbind(-1)
        image = torch.arange(len(keypoints), device=keypoints.device)[:, None]
        sampled = texture.movedim(1, -1)[image, row, column]
        near: Tensor = (sampled[..., None, :] - self.colors).norm(dim=-1) < self.epsilon
        return near & inside[..., None]

    def weights(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Bool[Tensor, "batch N"]:
        """Compute ``S_w``: whether each keypoint's projection shows its own color."""
        seen: Tensor = self.correspondences(vertices, camera).diagonal(dim1=-2, dim2=-1)
        return seen

    def visibility(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Bool[Tensor, "batch N"]:
        """Compute by the z-buffer which keypoints are inside the image and not behind the object."""
        return vertex_visibility(Mesh(vertices, self.faces), camera)[:, self.indices]
