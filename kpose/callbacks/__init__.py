"""Callbacks: pictures of predictions in the logger, the schedule of the cameras, and what training costs."""

from kpose.callbacks.cost import MeasureTraining, PeakMemory
from kpose.callbacks.overlays import LogOverlays, picture_prediction
from kpose.callbacks.pruning import PruneCameras
from kpose.callbacks.shapes import LogShapes, picture_azimuths, picture_shape

__all__ = [
    "LogOverlays",
    "LogShapes",
    "MeasureTraining",
    "PeakMemory",
    "PruneCameras",
    "picture_azimuths",
    "picture_prediction",
    "picture_shape",
]
