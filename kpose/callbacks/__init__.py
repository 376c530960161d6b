"""Callbacks: pictures in the logger, the schedule of the cameras, random states, and what training costs."""

from kpose.callbacks.cost import MeasureTraining, PeakMemory
from kpose.callbacks.overlays import LogOverlays, picture_prediction
from kpose.callbacks.pruning import PruneCameras
from kpose.callbacks.random_state import KeepRandomState
from kpose.callbacks.reconstructions import LogReconstructions, picture_azimuths, picture_reconstruction

__all__ = [
    "KeepRandomState",
    "LogOverlays",
    "LogReconstructions",
    "MeasureTraining",
    "PeakMemory",
    "PruneCameras",
    "picture_azimuths",
    "picture_prediction",
    "picture_reconstruction",
]
