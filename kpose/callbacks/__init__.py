"""Callbacks: pictures of predictions in the logger, the schedule of the cameras, and compiled networks."""

from kpose.callbacks.compilation import Compilation
from kpose.callbacks.overlays import LogOverlays
from kpose.callbacks.pruning import PruneCameras
from kpose.callbacks.shapes import LogShapes

__all__ = ["Compilation", "LogOverlays", "LogShapes", "PruneCameras"]
