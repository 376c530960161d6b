"""Keypoints instead of numbers: heatmaps of points on the template, and the camera that explains their peaks."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kpose.geometry.camera import project
from kpose.geometry.heatmap import gaussian_heatmaps, heatmap_peaks
from kpose.geometry.sampling import farthest_point_sampling
from kpose.heads.base import PoseHead
from kpose.heads.smooth import SmoothNetwork
from kpose.losses import heatmap_loss
from kpose.pnp import solve_pnp
from kpose.rendering import vertex_visibility
from kpose.structures import Batch, Camera, Features, FeatureSpec, Mesh, PosePrediction, Template
from kpose.templates import bird, load_template

__all__ = ["KeypointHead", "KeypointPrediction"]


@dataclass(frozen=True)
class KeypointPrediction(PosePrediction):
    """Camera with the keypoints that it was solved from."""

    heatmaps: Float[Tensor, "batch N h w"]
    """One map for each keypoint, about 1 at its place."""
    keypoints: Float[Tensor, "batch N 2"]
    """Peaks of the heatmaps, in normalised coordinates."""
    confidence: Float[Tensor, "batch N"]
    """Height of the peaks, clamped to [0, 1]."""
    points: Float[Tensor, "batch N 3"]
    """The keypoints on the object, in its frame."""
    vertices: Float[Tensor, "batch V 3"]
    """The shape that ``points`` were taken from."""
    inliers: Bool[Tensor, "batch N"]
    """Keypoints that agree with the camera."""
    covariance: Float[Tensor, "batch 6 6"]
    """Uncertainty of the camera (see `kpose.pnp.PnPSolution`)."""
    valid: Bool[Tensor, "batch"]
    """Whether the keypoints determine a camera."""
    stages: tuple[Float[Tensor, "batch N _ _"], ...] = ()
    """Heatmaps of the coarser stages, for deep supervision only."""


class KeypointHead(PoseHead[KeypointPrediction]):
    """Predict points of the template as heatmaps and solve for the camera by robust weak-perspective PnP.

    The points are spread over the template by farthest point sampling, in mirror pairs; their indices and the
    template's vertices are part of the checkpoint. Training needs a camera for each image only: the points are
    projected by it and drawn as Gaussians, which the network is asked to reproduce. Keypoints outside the crop are
    not asked for; those on the far side of the object count ``occluded_weight``. The camera is solved without
    gradient.

    Args:
        spec: What the backbone gives.
        template: Mean shape of the category, or a file of it; the built-in bird when None.
        num_keypoints: Number of points; 32 to 64 serve well.
        width: Channels of the network.
        sigma: Standard deviation of the Gaussians, in normalised units. On maps of fewer than 40
            cells a side the paper's 0.05 is narrower than a cell and training stays near empty maps for long.
        occluded_weight: Weight of a keypoint on the far side of the object, beside 1 for one in sight. The paper
            has 0, which leaves their maps to chance.
        deep_weight: Weight of the same loss on the coarser stages' maps; 0 leaves those maps out.
        seed: Seed of the point at which sampling starts.
    """

    supervision: ClassVar[frozenset[str]] = frozenset({"camera"})

    keypoint_indices: Tensor
    template_vertices: Tensor
    template_faces: Tensor

    def __init__(
        self,
        spec: FeatureSpec,
        template: Template | Path | None = None,
        *,
        num_keypoints: int = 48,
        width: int = 64,
        sigma: float = 0.1,
        occluded_weight: float = 0.5,
        deep_weight: float = 0.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        shape = _shape(template)
        generator = torch.Generator().manual_seed(seed)
        indices = farthest_point_sampling(shape.vertices, num_keypoints, generator=generator, mirror=shape.mirror)
        self.template = shape
        self.register_buffer("keypoint_indices", indices)
        self.register_buffer("template_vertices", shape.vertices.clone())
        self.register_buffer("template_faces", shape.faces.clone())
        self.sigma = sigma
        self.occluded_weight = occluded_weight
        self.deep_weight = deep_weight
        self.network = SmoothNetwork(spec, num_keypoints, width, deep=deep_weight > 0)

    def forward(self, features: Features, vertices: Float[Tensor, "batch V 3"] | None = None) -> KeypointPrediction:
        """Predict heatmaps and solve for the camera of every image."""
        *stages, heatmaps = (maps.float() for maps in self.network(features))
        if vertices is None:
            vertices = self.template_vertices.expand(len(heatmaps), -1, -1)
        points = vertices[:, self.keypoint_indices]
        with torch.no_grad(), torch.autocast(heatmaps.device.type, enabled=False):
            keypoints, confidence = heatmap_peaks(heatmaps)
            confidence = confidence.clamp(0, 1)
            # No loss reads the camera, so a short search does while training.
            hypotheses = 16 if self.training else 128
            solution = solve_pnp(keypoints, points.float(), confidence, hypotheses=hypotheses)
        return KeypointPrediction(
            camera=solution.camera,
            heatmaps=heatmaps,
            keypoints=keypoints,
            confidence=confidence,
            points=points,
            vertices=vertices,
            inliers=solution.inliers,
            covariance=solution.covariance,
            valid=solution.valid,
            stages=tuple(stages),
        )

    def losses(self, prediction: KeypointPrediction, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Draw the keypoints where the batch's cameras put them and compare heatmaps."""
        with torch.no_grad(), torch.autocast(prediction.heatmaps.device.type, enabled=False):
            targets = project(prediction.points.float(), batch["camera"])
            weights = self.visibility(prediction.vertices.float(), batch["camera"], targets)
        losses = {"heatmap": self._loss(prediction.heatmaps, targets, weights)}
        if self.deep_weight > 0:
            deep = torch.stack([self._loss(maps, targets, weights) for maps in prediction.stages])
            losses["deep"] = self.deep_weight * deep.mean()
        return losses

    def visibility(
        self, vertices: Float[Tensor, "batch V 3"], camera: Camera, keypoints: Float[Tensor, "batch N 2"]
    ) -> Float[Tensor, "batch N"]:
        """Weigh the keypoints of each image by whether they can be seen.

        Args:
            vertices: Shapes.
            camera: Cameras of the crops.
            keypoints: Projections of the keypoints.

        Returns:
            1 in sight, ``occluded_weight`` on the far side, 0 outside the crop.
        """
        inside = (keypoints.abs() < 1).all(-1)
        if self.occluded_weight == 1:
            return inside.to(vertices)
        visible = vertex_visibility(Mesh(vertices, self.template_faces), camera)[:, self.keypoint_indices]
        return inside * torch.where(visible, 1.0, self.occluded_weight).to(vertices)

    def _loss(self, heatmaps: Tensor, keypoints: Tensor, weights: Tensor) -> Tensor:
        size = (heatmaps.shape[-2], heatmaps.shape[-1])
        # A Gaussian narrower than the cells of a coarse stage would fall between them.
        sigma = max(self.sigma, 1 / min(size))
        return heatmap_loss(heatmaps, gaussian_heatmaps(keypoints, size, sigma), weights)


def _shape(template: Template | Path | None) -> Template:
    if template is None:
        return bird()
    return template if isinstance(template, Template) else load_template(template)
