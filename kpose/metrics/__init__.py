"""Scores of masks, poses and viewpoint distributions, each a `torchmetrics.Metric`."""

from kpose.metrics.angular_error import AngularError, angular_error
from kpose.metrics.keypoint_transfer import KeypointTransfer
from kpose.metrics.mask_iou import MaskIoU
from kpose.metrics.video_jaccard import VideoJaccard
from kpose.metrics.viewpoint import ViewpointWasserstein

__all__ = [
    "AngularError",
    "KeypointTransfer",
    "MaskIoU",
    "VideoJaccard",
    "ViewpointWasserstein",
    "angular_error",
]
