"""Callbacks: pictures of predictions in the logger, and the schedule of the cameras."""

from kpose.callbacks.overlays import LogOverlays, picture_prediction
from kpose.callbacks.pruning import PruneCameras
from kpose.callbacks.shapes import LogShapes, picture_azimuths, picture_shape

__all__ = [
    "LogOverlays",
    "LogShapes",
    "PruneCameras",
    "picture_azimuths",
    "picture_prediction",
    "picture_shape",
]
