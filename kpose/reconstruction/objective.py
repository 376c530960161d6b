"""The losses of network and cameras, and how their gradients share one rendering."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kpose.geometry import mask_iou
from kpose.losses import (
    AppearanceDistance,
    GraphLaplacianLoss,
    deformation_loss,
    distance_transform,
    silhouette_loss,
)
from kpose.reconstruction.camera_weights import camera_weights, rescale
from kpose.rendering import Renderer, fast_renderer
from kpose.structures import Camera, Mesh, Shape, Template

__all__ = ["Comparison", "MultiplexObjective"]


class Comparison(NamedTuple):
    """Images of a batch beside their renderings under each of their cameras.

    Example:
        See `MultiplexObjective`, which returns one.
    """

    shape: Shape
    """Shapes and textures."""
    cameras: Camera
    """Cameras of the batch's crops, ``(batch, P)``."""
    image: Float[Tensor, "batch 3 h w"]
    """Crops, RGB in [0, 1], at the size that they are compared at."""
    mask: Bool[Tensor, "batch h w"]
    """Their silhouettes."""
    silhouettes: Float[Tensor, "batch P h w"]
    """Rendered silhouettes."""
    pictures: Float[Tensor, "batch P 3 h w"]
    """Rendered colors on black."""
    covered: Bool[Tensor, "batch P h w"]
    """Where the hard silhouettes are."""
    mask_loss: Float[Tensor, "batch P"]
    """Loss of each silhouette."""
    overlap_loss: Float[Tensor, "batch P"]
    """One minus the soft intersection over union of each silhouette and the mask."""
    appearance_loss: Float[Tensor, "batch P"]
    """Distance of each picture to the photo."""
    score: Float[Tensor, "batch P"]
    """Both losses, each rescaled to [0, 1] within its image, averaged; lower is better."""
    weights: Float[Tensor, "batch P"]
    """Share of each camera in the loss of its image."""

    def detach(self) -> "Comparison":
        """Return the same comparison without gradients."""
        return Comparison(
            Shape(*(part.detach() for part in self.shape)),
            self.cameras.detach(),
            *(part.detach() for part in self[2:]),
        )


class MultiplexObjective(nn.Module):
    """Compare images with renderings under several cameras each; return the losses of network and cameras.

    The network's loss weighs the cameras of an image by how well they explain it; every camera's own loss is not
    weighed.

    Args:
        template: Tells the faces.
        distance: How unlike rendered and photographed objects are.
        renderer: What renders; `fast_renderer` when None. Leave back faces in: with the front faces alone, a soft
            silhouette has thin cracks where faces meet, up to a quarter deep.
        temperature: Of the cameras' weights (see `camera_weights`).
        mask_weight: Weight of the silhouettes (see `silhouette_loss`).
        overlap_weight: Weight of one minus their soft `kpose.geometry.mask_iou`: under uncertain cameras
            `silhouette_loss` shrinks shapes to what the object surely covers.
        appearance_weight: Weight of the appearance.
        deformation_weight: Weight of the deformation's size.
        laplacian_weight: Weight of the graph Laplacian.
        paper_terms: Deformation and Laplacian as the paper writes them (squared lengths, the Laplacian divided by
            the vertices' degrees) rather than as the released code has them; the defaults' weights are not the
            paper's.

    Source:
        Gharaee et al. 2022, Eq. 1; Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020 (released code:
        weights, and scores that are rescaled for each image).

    Example:
        >>> from kpose.losses import PixelDistance
        >>> from kpose.templates import bird
        >>> template = bird()
        >>> shape = Shape(template.vertices[None], torch.zeros(1, 642, 3), torch.rand(1, 3, 8, 16))
        >>> mesh = Mesh(shape.vertices, template.faces, template.uv, template.uv_faces, shape.texture)
        >>> cameras = Camera(torch.full((1, 4), 0.5), torch.zeros(1, 4, 2), torch.eye(3).expand(1, 4, 3, 3))
        >>> objective = MultiplexObjective(template, PixelDistance())
        >>> found = objective(shape, mesh, cameras, torch.rand(1, 3, 16, 16), torch.ones(1, 16, 16).bool())
        >>> objective.camera_loss(found).shape, sorted(objective.terms(found))
        (torch.Size([1, 4]), ['appearance', 'deformation', 'laplacian', 'mask'])
    """

    def __init__(
        self,
        template: Template,
        distance: AppearanceDistance,
        *,
        renderer: Renderer | None = None,
        temperature: float = 0.05,
        mask_weight: float = 10.0,
        overlap_weight: float = 0.0,
        appearance_weight: float = 1.0,
        deformation_weight: float = 1.0,
        laplacian_weight: float = 0.5,
        paper_terms: bool = False,
    ) -> None:
        super().__init__()
        self.distance = distance
        self.renderer = fast_renderer() if renderer is None else renderer
        self.laplacian = GraphLaplacianLoss(
            template.faces, len(template.vertices), normalized=paper_terms, squared=paper_terms
        )
        self.temperature = temperature
        self.mask_weight = mask_weight
        self.overlap_weight = overlap_weight
        self.appearance_weight = appearance_weight
        self.deformation_weight = deformation_weight
        self.laplacian_weight = laplacian_weight
        self.paper_terms = paper_terms

    def forward(
        self,
        shape: Shape,
        mesh: Mesh,
        cameras: Camera,
        image: Float[Tensor, "batch 3 h w"],
        mask: Bool[Tensor, "batch h w"],
    ) -> Comparison:
        """Render every object with all its cameras, and compare.

        Args:
            shape: Shapes and textures.
            mesh: The same as textured meshes.
            cameras: Cameras of the crops, ``(batch, P)``.
            image: Crops, RGB in [0, 1].
            mask: Their silhouettes.

        Returns:
            The comparison, differentiable in meshes and cameras.
        """
        assert mesh.texture is not None
        mesh = mesh._replace(vertices=mesh.vertices[:, None], texture=mesh.texture[:, None])
        rendering = self.renderer.render(mesh, cameras, (mask.shape[-2], mask.shape[-1]))
        assert rendering.rgb is not None
        # Clones, so that neither of the two depends on the other (see `gradients`).
        silhouettes, pictures = rendering.mask.clone(), rendering.rgb.clone()
        inside = mask.to(silhouettes)
        mask_loss = silhouette_loss(silhouettes, inside[:, None], distance_transform(mask)[:, None])
        missed_overlap = 1 - mask_iou(silhouettes, inside[:, None].expand_as(silhouettes))
        appearance_loss = self.distance(pictures, image, inside).float()
        score = (rescale(mask_loss.detach()) + rescale(appearance_loss.detach())) / 2
        return Comparison(
            shape=shape,
            cameras=cameras,
            image=image,
            mask=mask,
            silhouettes=silhouettes,
            pictures=pictures,
            covered=rendering.face_index >= 0,
            mask_loss=mask_loss,
            overlap_loss=missed_overlap,
            appearance_loss=appearance_loss,
            score=score,
            weights=camera_weights(score, self.temperature),
        )

    def camera_loss(self, comparison: Comparison) -> Float[Tensor, "batch P"]:
        """Return the loss of each camera on its own.

        Args:
            comparison: What `forward` gave.

        Returns:
            Weighted sum of silhouette, overlap and appearance.
        """
        return torch.stack(list(self._explained(comparison).values())).sum(0)

    def terms(self, comparison: Comparison) -> dict[str, Float[Tensor, ""]]:
        """Return the terms of the network's loss, weighted.

        Args:
            comparison: What `forward` gave.

        Returns:
            Scalars by name; the loss is their sum.
        """
        shares = {
            name: (comparison.weights * loss).sum(-1).mean() for name, loss in self._explained(comparison).items()
        }
        return {**shares, **self._regularizers(comparison.shape)}

    def _explained(self, comparison: Comparison) -> dict[str, Float[Tensor, "batch P"]]:
        """Weigh what each camera leaves unexplained."""
        losses = {
            "mask": self.mask_weight * comparison.mask_loss,
            "appearance": self.appearance_weight * comparison.appearance_loss,
        }
        return losses | ({"overlap": self.overlap_weight * comparison.overlap_loss} if self.overlap_weight else {})

    def _regularizers(self, shape: Shape) -> dict[str, Tensor]:
        deformation = deformation_loss(shape.deformation, squared=self.paper_terms).mean()
        roughness = self.laplacian(shape.vertices).mean()
        return {
            "deformation": self.deformation_weight * deformation,
            "laplacian": self.laplacian_weight * roughness,
        }

    def gradients(
        self, comparison: Comparison, residuals: Float[Tensor, "batch P 6"]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "batch P 6"]]:
        """Take the gradient of the cameras, and prepare that of the network.

        Both losses weigh the same comparisons, only differently. So the gradient with respect to the rendered
        images is computed once, and goes back through the renderer with either weights.

        Args:
            comparison: What `forward` gave for these residuals; its losses cannot be differentiated again.
            residuals: Leaf that the cameras depend on.

        Returns:
            A scalar whose gradient is that of the network's loss (its value means nothing), and the gradient of the
            sum over all images and cameras of `camera_loss`: that of a row does not depend on its batch.
        """
        images = (comparison.silhouettes, comparison.pictures)
        by_image = torch.autograd.grad(self.camera_loss(comparison).sum(), images)
        (gradient,) = torch.autograd.grad(images, residuals, by_image, retain_graph=True)
        weights = comparison.weights / len(comparison.weights)
        weighted = [torch.einsum("np,np...->np...", weights, part) for part in by_image]
        through = [(image * part).sum() for image, part in zip(images, weighted, strict=True)]
        regularizers = self._regularizers(comparison.shape)
        return torch.stack([*through, *regularizers.values()]).sum(), gradient
