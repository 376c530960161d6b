"""Scores of masks, poses and viewpoint distributions, as functions and as `torchmetrics.Metric`."""

from kpose.metrics.angular_error import AngularError, angular_error, frame_alignment
from kpose.metrics.mask_iou import MaskIoU, mask_iou
from kpose.metrics.multiplex_error import multiplex_error
from kpose.metrics.video_jaccard import VideoJaccard, jaccard_statistics
from kpose.metrics.viewpoint import ViewpointWasserstein, wasserstein_circular, wasserstein_linear

__all__ = [
    "AngularError",
    "MaskIoU",
    "VideoJaccard",
    "ViewpointWasserstein",
    "angular_error",
    "frame_alignment",
    "jaccard_statistics",
    "mask_iou",
    "multiplex_error",
    "wasserstein_circular",
    "wasserstein_linear",
]
