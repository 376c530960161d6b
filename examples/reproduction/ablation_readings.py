"""Ways to solve for the camera of a trained keypoint head: same heatmaps, other weights, points and thresholds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kpose.heads import KeypointHead, KeypointPrediction, KeypointSolver
from kpose.metrics import AngularError, MaskIoU
from kpose.network import PoseNetwork
from kpose.rendering import HardRenderer
from kpose.structures import Camera, Mesh
from kpose.tasks import PoseEstimator


@dataclass
class Peaks:
    """What a camera is solved from."""

    keypoints: Tensor
    confidence: Tensor
    heights: Tensor
    spread: Tensor
    """Standard deviation of each heatmap around its peak, in normalized units."""
    points: Tensor


Reading = Callable[[Peaks], Camera]


def _solver(**settings: Any) -> Reading:  # noqa: ANN401 - arguments of KeypointSolver
    solver = KeypointSolver(**settings).eval()
    return lambda peaks: solver(peaks.keypoints, peaks.points, peaks.confidence).camera


def _weighted(weights: Callable[[Peaks], Tensor], **settings: Any) -> Reading:  # noqa: ANN401
    solver = KeypointSolver(**settings).eval()
    return lambda peaks: solver(peaks.keypoints, peaks.points, weights(peaks)).camera


def _threshold_from_spread(peaks: Peaks) -> Camera:
    """Set each image's threshold to the median spread of its heatmaps, by measuring the image in that unit."""
    unit = peaks.spread.median(-1).values
    solver = KeypointSolver(threshold=1.0).eval()
    camera = solver(peaks.keypoints / unit[:, None, None], peaks.points, peaks.confidence).camera
    return Camera(camera.scale * unit, camera.translation * unit[:, None], camera.rotation)


READINGS: dict[str, Reading] = {
    "best half by confidence, weighted (default)": _solver(),
    "best half by height, weighted by it": _weighted(lambda peaks: peaks.heights),
    "all, equal weights": _weighted(lambda peaks: torch.ones_like(peaks.heights), trusted=1.0),
    "all, weighted by height": _weighted(lambda peaks: peaks.heights, trusted=1.0),
    "all, weighted by confidence": _solver(trusted=1.0),
    "all, weighted by confidence / spread²": _weighted(
        lambda peaks: peaks.confidence / peaks.spread.square(), trusted=1.0
    ),
    "best three quarters by confidence": _solver(trusted=0.75),
    "best quarter by confidence": _solver(trusted=0.25),
    "threshold 0.05": _solver(threshold=0.05),
    "threshold 0.2": _solver(threshold=0.2),
    "threshold from the heatmaps' spread": _threshold_from_spread,
    "least squares, best half": _solver(threshold=None),
}
MIRRORED = "heatmaps averaged with the mirrored image's"


@torch.no_grad()
def score_readings(task: PoseEstimator, data: Any) -> dict[str, dict[str, float]]:  # noqa: ANN401 - any data module
    """Score every reading, and the average over an image and its mirror image, on the test split.

    Args:
        task: Task with a trained `KeypointHead`.
        data: Data module with images.

    Returns:
        Scores by reading.
    """
    task.eval()
    head, network = task.network.head, task.network
    assert isinstance(head, KeypointHead)
    metrics = {name: (AngularError(), MaskIoU(soft=False)) for name in (*READINGS, MIRRORED)}
    renderer = HardRenderer()
    data.setup("test")
    for batch in data.test_dataloader():
        prediction = network.pose(network.backbone(batch["image"]))
        mirrored = network.pose(network.backbone(batch["image"].flip(-1)))
        cameras = {name: reading(_peaks(prediction)) for name, reading in READINGS.items()}
        cameras[MIRRORED] = READINGS["best half by confidence, weighted (default)"](
            _mean_peaks(network, prediction, mirrored)
        )
        mesh = Mesh(prediction.vertices, network.faces)
        size = (batch["mask"].shape[-2], batch["mask"].shape[-1])
        for name, camera in cameras.items():
            angle, iou = metrics[name]
            angle.update(camera, batch["camera"])
            iou.update(renderer.silhouette(mesh, camera, size), batch["mask"])
    return {name: _scores(*both) for name, both in metrics.items()}


def _scores(angle: AngularError, iou: MaskIoU) -> dict[str, float]:
    return {**{key: float(value) for key, value in angle.compute().items()}, "iou": float(iou.compute())}


def _peaks(prediction: KeypointPrediction) -> Peaks:
    return Peaks(
        prediction.keypoints,
        prediction.confidence,
        prediction.heights,
        _spread(prediction.heatmaps, prediction.keypoints),
        prediction.points,
    )


def _mean_peaks(network: PoseNetwork, prediction: KeypointPrediction, mirrored: KeypointPrediction) -> Peaks:
    """Average the maps of an image with those of its mirror image, turned back."""
    head, partner = network.head, _partners(network)
    heatmaps = (prediction.heatmaps + mirrored.heatmaps.flip(-1)[:, partner]) / 2
    keypoints, heights = head.loss.peaks(heatmaps)
    confidence = (prediction.confidence + mirrored.confidence[:, partner]) / 2
    return Peaks(keypoints, confidence, heights, _spread(heatmaps, keypoints), prediction.points)


def _partners(network: PoseNetwork) -> Tensor:
    """Return for each keypoint the place of its mirror partner, its own for one in the middle."""
    place = {int(vertex): at for at, vertex in enumerate(network.head.keypoint_indices)}
    return torch.tensor([place[int(network.template.mirror[vertex])] for vertex in place])


def _spread(heatmaps: Tensor, keypoints: Tensor) -> Tensor:
    height, width = heatmaps.shape[-2:]
    y = (torch.arange(height) + 0.5) * 2 / height - 1
    x = (torch.arange(width) + 0.5) * 2 / width - 1
    weights = heatmaps.clamp_min(0)
    squared = (x - keypoints[..., 0, None]).square()[..., None, :] + (y - keypoints[..., 1, None]).square()[
        ..., :, None
    ]
    variance = (weights * squared).sum((-2, -1)) / (2 * weights.sum((-2, -1)).clamp_min(1e-6))
    return variance.sqrt().clamp_min(1 / max(height, width))
