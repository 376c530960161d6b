"""From videos to predictions of every object in every frame."""

from kpose.video.disk import DiskTracker, read_mask_folder
from kpose.video.frames import Frame, count_frames, open_frames
from kpose.video.lwl import LWLTracker
from kpose.video.overlap import OverlapTracker
from kpose.video.predictor import FramePredictions, ObjectPrediction, VideoPredictor
from kpose.video.sam2 import Sam2Tracker
from kpose.video.smoothing import TemporalSmoothing
from kpose.video.tracker import Track, Tracker

__all__ = [
    "DiskTracker",
    "Frame",
    "FramePredictions",
    "LWLTracker",
    "ObjectPrediction",
    "OverlapTracker",
    "Sam2Tracker",
    "TemporalSmoothing",
    "Track",
    "Tracker",
    "VideoPredictor",
    "count_frames",
    "open_frames",
    "read_mask_folder",
]
