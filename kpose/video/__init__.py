"""From videos to predictions of every object in every frame."""

from kpose.video.association import AssociationTracker
from kpose.video.disk import DiskTracker
from kpose.video.frames import Frame, open_frames
from kpose.video.lwl import LWLTracker
from kpose.video.predictor import FramePredictions, VideoPredictor
from kpose.video.sam2 import Sam2Tracker
from kpose.video.smoothing import TemporalSmoothing
from kpose.video.tracker import Track, Tracker

__all__ = [
    "AssociationTracker",
    "DiskTracker",
    "Frame",
    "FramePredictions",
    "LWLTracker",
    "Sam2Tracker",
    "TemporalSmoothing",
    "Track",
    "Tracker",
    "VideoPredictor",
    "open_frames",
]
