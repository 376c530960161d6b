"""Soft rasterization in plain torch: blurred outlines, and two ways to color them."""

from jaxtyping import Float
from torch import Tensor

from kpose.rendering.blend import Blur, blend, blur_radius, cover
from kpose.rendering.renderer import Renderer
from kpose.rendering.scene import Part, Scene
from kpose.structures import Camera, Mesh, Rendering

__all__ = ["CompositeRenderer", "SoftRenderer"]


class CompositeRenderer(Renderer):
    """Renderer of a blurred mask over the colors of a hard z-buffer.

    A face covers a pixel with probability ``sigmoid(±d² / sigma)``, d being the distance of the pixel's center to
    the face's nearest edge, positive inside; the mask is the probability that any face covers it. Depth, face and
    barycentrics are those of `HardRenderer`; the color is the mask times that of `HardRenderer`. This is *not* the
    softmax blend of `SoftRenderer`: it costs less, and its gradient moves a vertex through the mask and through the
    place on the texture, never through the order of faces.

    Args:
        sigma: Blur of the outline in squared normalized units. It reaches ``3 sqrt(sigma)`` to either side.
        cull_back_faces: Leave out the faces seen from behind; the mesh must be closed and consistently wound.
            Otherwise front and back both count at the outline, which swells the mask by about ``sqrt(sigma)``.
        max_pairs: Bound of memory: pairs of a face and a pixel in its box, and pixels, that are held at a time, at
            about 70 bytes each. What exceeds it is drawn in groups, and computed again backwards.

    Source:
        Liu et al., Soft Rasterizer, ICCV 2019, Eq. 1 and 6 (the mask).

    Example:
        >>> import torch
        >>> mesh = Mesh(torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]]), torch.tensor([[0, 2, 1]]))
        >>> camera = Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3))
        >>> CompositeRenderer(sigma=0.1).silhouette(mesh, camera, 2)
        tensor([[0.9241, 0.5000],
                [0.5000, 0.0067]])
    """

    def __init__(self, sigma: float = 1e-5, *, cull_back_faces: bool = False, max_pairs: int = 1 << 22) -> None:
        if sigma <= 0:
            raise ValueError(
                f"Soft rendering needs a positive sigma; got {sigma}. Use HardRenderer for sharp masks."
            )
        self.sigma = sigma
        self.cull_back_faces = cull_back_faces
        self.max_pairs = max_pairs

    def render(self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]) -> Rendering:
        """Draw meshes; see `Renderer.render`."""
        scene = self._scene(mesh, camera, size)
        return scene.rendering(*scene.draw(lambda part: self._draw(part, scene)))

    def silhouette(
        self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]
    ) -> Float[Tensor, "*batch height width"]:
        """Draw the mask alone, at about two thirds of the cost; see `Renderer.silhouette`."""
        scene = self._scene(mesh, camera, size)
        (mask,) = scene.draw(lambda part: (self._cover(part, scene),))
        return scene.images(mask)

    def _scene(self, mesh: Mesh, camera: Camera, size: int | tuple[int, int]) -> Scene:
        radius, cull = blur_radius(self.sigma), self.cull_back_faces
        return Scene(mesh, camera, size, radius=radius, cull=cull, max_pairs=self.max_pairs)

    def _draw(self, part: Part, scene: Scene) -> tuple[Tensor, ...]:
        depth, face, weights, *rgb = scene.surface(part)
        mask = self._cover(part, scene)
        return mask, depth, face, weights, *(mask * color for color in rgb)

    def _cover(self, part: Part, scene: Scene) -> Tensor:
        return cover(part, scene.size, self.sigma, self.max_pairs)


class SoftRenderer(CompositeRenderer):
    """Renderer of a blurred mask, with colors that are blended over all faces by a softmax over their closeness.

    Mask, depth, face and barycentrics are those of `CompositeRenderer`. The color weighs each face by its
    probability times ``exp(closeness / gamma)``, closeness falling from 1 at depth ``near`` to 0 at ``far``. As in
    the paper the color is not multiplied by the mask: it stays strong over the whole blur of the outline.

    Args:
        sigma: Blur of the outline in squared normalized units. It reaches ``3 sqrt(sigma)`` to either side.
        gamma: Temperature of the softmax.
        near: Depth of the closest surface that is expected, in image units.
        far: Depth of the farthest.
        cull_back_faces: Leave out the faces seen from behind; the mesh must be closed and consistently wound.
            Otherwise front and back both count at the outline, which swells the mask by about ``sqrt(sigma)``.
        max_pairs: Bound of memory: pairs of a face and a pixel in its box, and pixels, that are held at a time, at
            about 300 bytes each with colors. What exceeds it is drawn in groups, and computed again backwards.

    Source:
        Liu et al., Soft Rasterizer, ICCV 2019, Eq. 1, 2, 3 and 6.

    Example:
        >>> import torch
        >>> mesh = Mesh(torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]]), torch.tensor([[0, 2, 1]]),
        ...             vertex_colors=torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1]]))
        >>> camera = Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3))
        >>> SoftRenderer().render(mesh, camera, 2).rgb[:, 0, 0]
        tensor([0.5000, 0.2500, 0.2500])
    """

    def __init__(
        self,
        sigma: float = 1e-5,
        gamma: float = 1e-4,
        *,
        near: float = -4.0,
        far: float = 5.0,
        cull_back_faces: bool = False,
        max_pairs: int = 1 << 22,
    ) -> None:
        super().__init__(sigma, cull_back_faces=cull_back_faces, max_pairs=max_pairs)
        if gamma <= 0 or far <= near:
            raise ValueError(
                f"SoftRenderer needs gamma > 0 and near < far; got gamma {gamma}, near {near}, far {far}."
            )
        self.gamma = gamma
        self.near = near
        self.far = far

    def _draw(self, part: Part, scene: Scene) -> tuple[Tensor, ...]:
        surface = scene.surface(part._replace(paint=None))
        if part.paint is None:
            return self._cover(part, scene), *surface
        blur = Blur(self.sigma, self.gamma, self.near, self.far)
        mask, rgb = blend(part, part.paint, scene.size, blur, self.max_pairs)
        return mask, *surface, rgb
