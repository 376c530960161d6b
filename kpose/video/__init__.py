"""From videos to reconstructions of every object in every frame."""

from kpose.video.association import AssociationTracker
from kpose.video.disk import DiskTracker, read_mask_folder
from kpose.video.frames import Frame, open_frames, read_camera, read_folder, read_video
from kpose.video.lwl import LWLTracker
from kpose.video.predictor import FrameReconstructions, ObjectReconstruction, VideoPredictor, VideoState
from kpose.video.sam2 import Sam2Tracker
from kpose.video.smoothing import TemporalSmoothing
from kpose.video.tracker import Track, Tracker

__all__ = [
    "AssociationTracker",
    "DiskTracker",
    "Frame",
    "FrameReconstructions",
    "LWLTracker",
    "ObjectReconstruction",
    "Sam2Tracker",
    "TemporalSmoothing",
    "Track",
    "Tracker",
    "VideoPredictor",
    "VideoState",
    "open_frames",
    "read_camera",
    "read_folder",
    "read_mask_folder",
    "read_video",
]
