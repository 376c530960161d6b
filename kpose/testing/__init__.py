"""Contracts that parts of kpose, and users' own parts, have to keep."""

from kpose.testing.backbones import check_backbone
from kpose.testing.data_modules import check_data_module
from kpose.testing.heads import check_pose_head, example_batch
from kpose.testing.renderers import check_renderer
from kpose.testing.segmenters import check_segmenter
from kpose.testing.trackers import check_tracker

__all__ = [
    "check_backbone",
    "check_data_module",
    "check_pose_head",
    "check_renderer",
    "check_segmenter",
    "check_tracker",
    "example_batch",
]
