"""Callbacks: pictures of predictions in the logger, and the schedule of the cameras."""

from kpose.callbacks.overlays import LogOverlays, picture_prediction
from kpose.callbacks.pruning import PruneCameras
from kpose.callbacks.reconstructions import LogReconstructions, picture_azimuths, picture_reconstruction

__all__ = [
    "LogOverlays",
    "LogReconstructions",
    "PruneCameras",
    "picture_azimuths",
    "picture_prediction",
    "picture_reconstruction",
]
