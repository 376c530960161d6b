"""Keypoints instead of numbers: heatmaps of points on the template, and the camera that explains their peaks."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kpose._precision import widened
from kpose.geometry import farthest_point_sampling
from kpose.heads.base import PoseHead
from kpose.heads.confidence import PeakConfidence
from kpose.heads.self_supervision import SelfSupervision
from kpose.heads.smooth import SmoothNetwork
from kpose.heads.solver import KeypointSolver
from kpose.losses import HeatmapLoss
from kpose.pnp import PnPSolution
from kpose.structures import Batch, Camera, Features, FeatureSpec, PosePrediction, Template

__all__ = ["KeypointHead", "KeypointPrediction"]


_SOLVED = ("camera", "inliers", "covariance", "valid")


@dataclass
class KeypointPrediction(PosePrediction):
    """Keypoints, and the camera that they give: solved for when it is first read, since no loss reads it.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.templates import bird
        >>> backbone = TinyBackbone(width=8)
        >>> found = KeypointHead(backbone.spec, bird(), width=16).eval()(backbone(torch.rand(1, 3, 64, 64)))
        >>> found.keypoints.shape, found.inliers.shape, found.camera.scale.shape
        (torch.Size([1, 16, 2]), torch.Size([1, 16]), torch.Size([1]))
    """

    camera: Camera = field(init=False, repr=False)
    """Camera that explains the keypoints."""
    inliers: Bool[Tensor, "batch N"] = field(init=False, repr=False)
    """Keypoints that agree with the camera."""
    covariance: Float[Tensor, "batch 6 6"] = field(init=False, repr=False)
    """Uncertainty of the camera (see `kpose.pnp.PnPSolution`)."""
    valid: Bool[Tensor, "batch"] = field(init=False, repr=False)
    """Whether the keypoints determine the camera."""
    heatmaps: Float[Tensor, "batch N h w"]
    """One map for each keypoint, highest at its place."""
    keypoints: Float[Tensor, "batch N 2"]
    """Peaks of the heatmaps, in normalized coordinates."""
    heights: Float[Tensor, "batch N"]
    """Height of the peaks, in [0, 1]."""
    confidence: Float[Tensor, "batch N"]
    """Trust in each peak, in [0, 1]: its weight where the camera is solved."""
    points: Float[Tensor, "batch N 3"]
    """The keypoints on the object, in its frame."""
    vertices: Float[Tensor, "batch V 3"]
    """The shape that ``points`` were taken from."""
    outputs: tuple[Float[Tensor, "batch N _ _"], ...]
    """Maps of the network's stages, coarse to fine; the heatmaps are made from the last ones."""
    solver: Callable[..., PnPSolution] = field(repr=False)
    """How the camera is solved for (see `KeypointSolver`)."""
    logits: Float[Tensor, "batch N"] | None = None
    """Logits of the confidence, where it is learned."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        """Solve for the camera: Python asks here for what is not there yet."""
        if name not in _SOLVED:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        with torch.no_grad(), torch.autocast(self.points.device.type, enabled=False):
            solution = self.solver(self.keypoints, self.points, self.confidence)
        for each in _SOLVED:
            setattr(self, each, getattr(solution, each))
        return getattr(solution, name)


class KeypointHead(PoseHead[KeypointPrediction]):
    """Predict points of the template as heatmaps and solve for the camera by robust weak-perspective PnP.

    The points are spread over the template by farthest point sampling, in mirror pairs; their indices are part of
    the checkpoint. Training needs a camera for each image only: the points are projected by it and drawn as
    Gaussians, which the network learns to reproduce (see `SelfSupervision`). Keypoints outside the crop do not
    count; those on the far side of the object count ``occluded_weight``.
    Where the keypoints determine no camera, the prediction says so and has a finite one.

    Args:
        spec: Channels and strides of the backbone's feature maps.
        template: Mean shape of the category.
        num_keypoints: Number of points; 16 gave better cameras than 32 and more (docs/ablations.md).
        width: Channels of the network.
        sigma: Standard deviation of the Gaussians, in normalized units. On maps of fewer than 40
            cells a side the paper's 0.05 is narrower than a cell and training stays near empty maps for long.
        occluded_weight: Weight of a keypoint on the far side of the object, beside 1 for one in sight. The paper
            has 0, which leaves their maps to chance.
        loss: How maps are read and scored; weighted least squares, the paper's, when None.
        deep_weight: Weight of the same loss on the coarser stages' maps; 0 leaves those maps out.
        confidence_weight: Weight of the loss that teaches which peaks to trust, those of keypoints in sight; with 0
            their height tells.
        solver: How cameras are solved for; a `KeypointSolver` with its defaults when None.
        reads_shapes: Whether the points lie on the shape of the object in each image, as in the paper, or on the
            template in all images. Points of the template are off the parts that they stand for where shapes
            differ from it, but cameras that are solved from them stay as they are whatever is learned of shapes
            later on (see `kpose.tasks.ShapeAdaptation`).

    Raises:
        ValueError: If ``sigma`` is not positive, a weight negative, or there are more keypoints than vertices.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.templates import bird
        >>> backbone = TinyBackbone(width=8)
        >>> head = KeypointHead(backbone.spec, bird(), num_keypoints=8, width=16).eval()
        >>> found = head(backbone(torch.rand(1, 3, 64, 64)))
        >>> found.keypoints.shape, found.covariance.shape
        (torch.Size([1, 8, 2]), torch.Size([1, 6, 6]))
    """

    supervision = frozenset({"camera"})

    template_vertices: Tensor

    def __init__(
        self,
        spec: FeatureSpec,
        template: Template,
        *,
        num_keypoints: int = 16,
        width: int = 64,
        sigma: float = 0.15,
        occluded_weight: float = 0.5,
        loss: HeatmapLoss | None = None,
        deep_weight: float = 0.5,
        confidence_weight: float = 0.1,
        solver: KeypointSolver | None = None,
        reads_shapes: bool = True,
    ) -> None:
        super().__init__()
        weights = {
            "occluded_weight": occluded_weight,
            "deep_weight": deep_weight,
            "confidence_weight": confidence_weight,
        }
        if not sigma > 0 or not all(weight >= 0 for weight in weights.values()):
            raise ValueError(
                f"KeypointHead needs a positive sigma and weights of at least 0; got sigma={sigma} and {weights}."
            )
        generator = torch.Generator().manual_seed(0)
        indices = farthest_point_sampling(
            template.vertices, num_keypoints, generator=generator, mirror=template.mirror
        )
        self.register_buffer("template_vertices", template.vertices.clone(), persistent=False)
        self.self_supervision = SelfSupervision(template, indices, sigma=sigma)
        self.reads_shapes = reads_shapes
        self.occluded_weight = occluded_weight
        self.deep_weight = deep_weight
        self.confidence_weight = confidence_weight
        self.loss = HeatmapLoss() if loss is None else loss
        self.network = SmoothNetwork(spec, num_keypoints, width, deep=deep_weight > 0)
        self.confidence = PeakConfidence(num_keypoints, width) if confidence_weight > 0 else None
        self.solver = KeypointSolver() if solver is None else solver

    @property
    def keypoint_indices(self) -> Int[Tensor, "N"]:
        """Vertices of the template that are keypoints."""
        return self.self_supervision.indices

    def forward(self, features: Features, vertices: Float[Tensor, "batch V 3"] | None = None) -> KeypointPrediction:
        """Predict heatmaps, and the camera of every image once it is read."""
        outputs, seen = self.network(features)
        return self._read(outputs, seen, vertices)

    def _read(self, outputs: list[Tensor], seen: Tensor, vertices: Tensor | None) -> KeypointPrediction:
        """Read keypoints off the maps of the network's stages."""
        maps = tuple(widened(output) for output in outputs)
        if vertices is None or not self.reads_shapes:
            vertices = self.template_vertices.expand(maps[-1].shape[0], -1, -1)
        vertices = widened(vertices)
        points = vertices[:, self.keypoint_indices]
        with torch.autocast(points.device.type, enabled=False):
            heatmaps = self.loss.heatmaps(maps[-1])
            with torch.no_grad():
                keypoints, heights = self.loss.peaks(heatmaps)
            logits = None
            if self.confidence is not None:
                logits = self.confidence(widened(seen.detach()), heatmaps.detach(), keypoints, heights)
            confidence = heights if logits is None else logits.detach().sigmoid()
            confidence = torch.where(confidence.isfinite(), confidence, 0.0)
        return KeypointPrediction(
            heatmaps=heatmaps,
            keypoints=keypoints,
            heights=heights,
            confidence=confidence,
            points=points,
            vertices=vertices,
            outputs=maps,
            solver=self.solver,
            logits=logits,
        )

    def losses(self, prediction: KeypointPrediction, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Draw the keypoints where the batch's cameras put them and compare heatmaps."""
        with torch.autocast(prediction.heatmaps.device.type, enabled=False):
            vertices, camera = prediction.vertices.detach(), batch["camera"]
            keypoints = self.self_supervision.project(vertices, camera)
            visible = self.visibility(vertices, camera)
            weights = self.weights(keypoints, visible)
            *coarse, finest = (self._compare(output, keypoints, weights) for output in prediction.outputs)
            losses = {"heatmap": finest}
            if coarse:
                losses["deep"] = self.deep_weight * torch.stack(coarse).mean()
            if prediction.logits is not None:
                entropy = nn.functional.binary_cross_entropy_with_logits(
                    prediction.logits, visible.to(prediction.logits)
                )
                losses["confidence"] = self.confidence_weight * entropy
        return losses

    def camera_of(self, prediction: KeypointPrediction) -> Camera:
        """Solve for the cameras with gradients through the solver to the maps."""
        with torch.autocast(prediction.heatmaps.device.type, enabled=False):
            keypoints, _ = self.loss.peaks(prediction.heatmaps)
            camera: Camera = self.solver(keypoints, prediction.points, prediction.confidence).camera
        return camera

    def visibility(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Bool[Tensor, "batch N"]:
        """Compute which keypoints are in sight: inside the crop and not behind the object."""
        return self.self_supervision.visibility(vertices, camera)

    def weights(
        self, keypoints: Float[Tensor, "batch N 2"], visible: Bool[Tensor, "batch N"]
    ) -> Float[Tensor, "batch N"]:
        """Weigh keypoints: 1 in sight, ``occluded_weight`` on the far side, 0 outside the crop."""
        inside = (keypoints.abs() < 1).all(-1)
        return inside * torch.where(visible, 1.0, self.occluded_weight).to(keypoints)

    def _compare(self, output: Tensor, keypoints: Tensor, weights: Tensor) -> Tensor:
        targets = self.self_supervision.heatmaps(keypoints, (output.shape[-2], output.shape[-1]))
        loss: Tensor = self.loss(output, keypoints, targets, weights)
        return loss
