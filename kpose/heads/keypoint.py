"""Keypoints instead of numbers: heatmaps of points on the template, and the camera that explains their peaks."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from kornia.losses import binary_focal_loss_with_logits
from torch import Tensor, nn

from kpose.geometry import farthest_point_sampling
from kpose.heads.base import PoseHead
from kpose.heads.border import BorderTarget
from kpose.heads.confidence import PeakConfidence
from kpose.heads.fallback import KeypointSolver
from kpose.heads.network import KeypointNetwork
from kpose.heads.rotation import ProcrustesHead
from kpose.heads.self_supervision import SelfSupervision
from kpose.losses import HeatmapLoss, chordal_distance
from kpose.pnp import solve_pnp
from kpose.structures import Batch, Camera, Features, FeatureSpec, PosePrediction, Template

__all__ = ["KeypointHead", "KeypointPrediction"]


@dataclass(frozen=True)
class KeypointPrediction(PosePrediction):
    """Camera with the keypoints that it was solved from."""

    heatmaps: Float[Tensor, "batch N h w"]
    """One map for each keypoint, highest at its place."""
    keypoints: Float[Tensor, "batch N 2"]
    """Peaks of the heatmaps, in normalised coordinates."""
    heights: Float[Tensor, "batch N"]
    """Height of the peaks, in [0, 1]."""
    confidence: Float[Tensor, "batch N"]
    """Trust in each peak, in [0, 1]: its weight where the camera is solved."""
    points: Float[Tensor, "batch N 3"]
    """The keypoints on the object, in its frame."""
    vertices: Float[Tensor, "batch V 3"]
    """The shape that ``points`` were taken from."""
    inliers: Bool[Tensor, "batch N"]
    """Keypoints that agree with the camera."""
    covariance: Float[Tensor, "batch 6 6"]
    """Uncertainty of the camera (see `kpose.pnp.PnPSolution`)."""
    valid: Bool[Tensor, "batch"]
    """Whether the keypoints determine the camera."""
    source: Int[Tensor, "batch"]
    """Where the camera comes from: a `PoseSource`."""
    outputs: tuple[Float[Tensor, "batch N _ _"], ...]
    """What the network gave, coarse to fine; the heatmaps are made from the last ones."""
    borders: tuple[Float[Tensor, "batch h w"], ...] = ()
    """Logits of the border after every stage of the border network."""
    logits: Float[Tensor, "batch N"] | None = None
    """Logits of the confidence, where it is learned."""
    regression: PosePrediction | None = None
    """What the fallback predicts, where there is one."""


class KeypointHead(PoseHead[KeypointPrediction]):
    """Predict points of the template as heatmaps and solve for the camera by robust weak-perspective PnP.

    The points are spread over the template by farthest point sampling, in mirror pairs; their indices
    are part of the checkpoint. Training needs a camera for each image only: the points are
    projected by it and drawn as Gaussians, which the network is asked to reproduce (see `SelfSupervision`).
    Keypoints outside the crop are not asked for; those on the far side of the object count ``occluded_weight``.
    Where the keypoints determine no camera, one is regressed (see `KeypointSolver`).

    Args:
        spec: What the backbone gives.
        template: Mean shape of the category.
        num_keypoints: Number of points; 16 gave better cameras than 32 and more (docs/ablations.md).
        width: Channels of the network.
        sigma: Standard deviation of the Gaussians, in normalised units. On maps of fewer than 40
            cells a side the paper's 0.05 is narrower than a cell and training stays near empty maps for long.
        occluded_weight: Weight of a keypoint on the far side of the object, beside 1 for one in sight. The paper
            has 0, which leaves their maps to chance.
        label_weights: Whether the rendered label texture tells what is in sight, as in the paper, instead of the
            z-buffer.
        loss: How maps are read and scored; weighted least squares, the paper's, when None.
        deep_weight: Weight of the same loss on the coarser stages' maps; 0 leaves those maps out.
        border: What a border network beside the smooth network is asked for; no such network when None.
        border_weight: Weight of the focal loss of the border network.
        confidence_weight: Weight of the loss that teaches which peaks to trust, those of keypoints in sight; with 0
            their height tells.
        pose_weight: Weight of the error of the camera that least squares give, with gradients through the solver.
        fallback: Builds the head that regresses a camera for images whose keypoints determine none; None for none.
        solver: How cameras are solved for; a `KeypointSolver` with its defaults when None.
        reads_shapes: Whether the points lie on the shape of the object in each image, as in the paper, or on the
            template in all images. Points of the template are off the parts that they stand for where shapes
            differ from it, but cameras that are solved from them stay as they are whatever is learned of shapes
            later on (see `kpose.tasks.ShapeAdaptation`).
        seed: Seed of the point at which sampling starts.

    Raises:
        ValueError: If ``sigma`` is not positive, a weight negative, or there are more keypoints than vertices.
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
        label_weights: bool = False,
        loss: HeatmapLoss | None = None,
        deep_weight: float = 0.5,
        border: BorderTarget | None = None,
        border_weight: float = 1.0,
        confidence_weight: float = 0.1,
        pose_weight: float = 0.0,
        fallback: Callable[[FeatureSpec, Template], PoseHead] | None = ProcrustesHead,
        solver: KeypointSolver | None = None,
        reads_shapes: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        weights = {
            "occluded_weight": occluded_weight,
            "deep_weight": deep_weight,
            "border_weight": border_weight,
            "confidence_weight": confidence_weight,
            "pose_weight": pose_weight,
        }
        if not sigma > 0 or not all(weight >= 0 for weight in weights.values()):
            raise ValueError(
                f"KeypointHead needs a positive sigma and weights of at least 0; got sigma={sigma} and {weights}."
            )
        generator = torch.Generator().manual_seed(seed)
        indices = farthest_point_sampling(
            template.vertices, num_keypoints, generator=generator, mirror=template.mirror
        )
        self.register_buffer("template_vertices", template.vertices.clone(), persistent=False)
        self.self_supervision = SelfSupervision(template, indices, sigma=sigma)
        self.reads_shapes = reads_shapes
        self.occluded_weight = occluded_weight
        self.label_weights = label_weights
        self.deep_weight = deep_weight
        self.confidence_weight = confidence_weight
        self.pose_weight = pose_weight
        self.border = border
        self.border_weight = border_weight
        self.loss = HeatmapLoss() if loss is None else loss
        border_width = 0 if border is None else max(width // 4, 8)
        self.network = KeypointNetwork(spec, num_keypoints, width, deep=deep_weight > 0, border_width=border_width)
        self.confidence = PeakConfidence(num_keypoints, width) if confidence_weight > 0 else None
        self.fallback = None if fallback is None else fallback(spec, template)
        self.solver = KeypointSolver() if solver is None else solver
        if border is not None:
            self.supervision = self.supervision | border.supervision
        if self.fallback is not None:
            self.supervision = self.supervision | self.fallback.supervision

    @property
    def keypoint_indices(self) -> Int[Tensor, "N"]:
        """Vertices of the template that are keypoints."""
        return self.self_supervision.indices

    def forward(self, features: Features, vertices: Float[Tensor, "batch V 3"] | None = None) -> KeypointPrediction:
        """Predict heatmaps and solve for the camera of every image."""
        maps = self.network(features)
        outputs = tuple(output.float() for output in maps.stages)
        if vertices is None or not self.reads_shapes:
            vertices = self.template_vertices.expand(len(outputs[-1]), -1, -1)
        points = vertices[:, self.keypoint_indices]
        regression = None if self.fallback is None else self.fallback(features, vertices)
        with torch.autocast(points.device.type, enabled=False):
            heatmaps = self.loss.heatmaps(outputs[-1])
            with torch.no_grad():
                keypoints, heights = self.loss.peaks(heatmaps)
            logits = self._judge(maps.features.detach().float(), heatmaps.detach(), keypoints, heights)
            confidence = heights if logits is None else logits.detach().sigmoid()
            confidence = torch.where(confidence.isfinite(), confidence, 0.0)
            with torch.no_grad():
                camera = None if regression is None else regression.camera
                solution, source = self.solver(keypoints, points.float(), confidence, camera)
        return KeypointPrediction(
            camera=solution.camera,
            heatmaps=heatmaps,
            keypoints=keypoints,
            heights=heights,
            confidence=confidence,
            points=points,
            vertices=vertices,
            inliers=solution.inliers,
            covariance=solution.covariance,
            valid=solution.valid,
            source=source,
            outputs=outputs,
            borders=tuple(border.float() for border in maps.borders),
            logits=logits,
            regression=regression,
        )

    def losses(self, prediction: KeypointPrediction, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Draw the keypoints where the batch's cameras put them and compare heatmaps."""
        with torch.autocast(prediction.heatmaps.device.type, enabled=False):
            vertices = prediction.vertices.detach().float()
            keypoints = self.self_supervision.project(vertices, batch["camera"])
            visible = self.visibility(vertices, batch["camera"])
            weights = self.weights(keypoints, visible)
            *coarse, finest = (self._compare(output, keypoints, weights) for output in prediction.outputs)
            losses = {"heatmap": finest}
            if coarse:
                losses["deep"] = self.deep_weight * torch.stack(coarse).mean()
            if self.border is not None:
                losses["border"] = self.border_weight * self._border_loss(prediction, vertices, batch)
            if prediction.logits is not None:
                entropy = nn.functional.binary_cross_entropy_with_logits(prediction.logits, visible.float())
                losses["confidence"] = self.confidence_weight * entropy
            if self.pose_weight > 0:
                losses["pose"] = self.pose_weight * self._pose_loss(prediction, batch["camera"])
        if self.fallback is not None:
            terms = self.fallback.losses(prediction.regression, batch)
            losses |= {f"fallback_{name}": term for name, term in terms.items()}
        return losses

    def camera_of(self, prediction: KeypointPrediction) -> Camera:
        """Solve for the cameras once more, with gradients through the solver to the maps."""
        with torch.autocast(prediction.heatmaps.device.type, enabled=False):
            keypoints, _ = self.loss.peaks(prediction.heatmaps)
            fallback = None if prediction.regression is None else prediction.regression.camera
            points, confidence = prediction.points.float(), prediction.confidence
            camera: Camera = self.solver(keypoints, points, confidence, fallback)[0].camera
        return camera

    def visibility(self, vertices: Float[Tensor, "batch V 3"], camera: Camera) -> Bool[Tensor, "batch N"]:
        """Tell which keypoints are in sight, by the label texture or the z-buffer, as ``label_weights`` says.

        Args:
            vertices: Shapes.
            camera: Cameras of the crops.

        Returns:
            False behind the object and outside the crop.
        """
        block = self.self_supervision
        return block.weights(vertices, camera) if self.label_weights else block.visibility(vertices, camera)

    def weights(
        self, keypoints: Float[Tensor, "batch N 2"], visible: Bool[Tensor, "batch N"]
    ) -> Float[Tensor, "batch N"]:
        """Weigh the keypoints of each image.

        Args:
            keypoints: Projections of the keypoints.
            visible: Which are in sight.

        Returns:
            1 in sight, ``occluded_weight`` on the far side, 0 outside the crop.
        """
        inside = (keypoints.abs() < 1).all(-1)
        return inside * torch.where(visible, 1.0, self.occluded_weight).to(keypoints)

    def _judge(self, features: Tensor, heatmaps: Tensor, keypoints: Tensor, heights: Tensor) -> Tensor | None:
        if self.confidence is None:
            return None
        logits: Tensor = self.confidence(features, heatmaps, keypoints, heights)
        return logits

    def _compare(self, output: Tensor, keypoints: Tensor, weights: Tensor) -> Tensor:
        targets = self.self_supervision.heatmaps(keypoints, (output.shape[-2], output.shape[-1]))
        loss: Tensor = self.loss(output, keypoints, targets, weights)
        return loss

    def _border_loss(self, prediction: KeypointPrediction, vertices: Tensor, batch: Batch) -> Tensor:
        assert self.border is not None
        logits = torch.stack(prediction.borders, 1)
        target = self.border.draw(self.self_supervision, vertices, batch, (logits.shape[-2], logits.shape[-1]))
        return binary_focal_loss_with_logits(logits, target[:, None].expand_as(logits), reduction="mean")

    def _pose_loss(self, prediction: KeypointPrediction, target: Camera) -> Tensor:
        keypoints, heights = self.loss.peaks(prediction.heatmaps)
        weights = heights if prediction.logits is None else prediction.logits.sigmoid()
        camera, _, _, valid = solve_pnp(keypoints, prediction.points.float(), weights, threshold=None)
        error = (
            chordal_distance(camera.rotation, target.rotation)
            + (camera.scale - target.scale).square()
            + (camera.translation - target.translation).square().sum(-1)
        )
        return torch.where(valid, error, 0.0).mean()
