"""Callbacks: pictures of predictions in the logger, and the schedule of the cameras."""

from kpose.callbacks.overlays import LogOverlays
from kpose.callbacks.pruning import PruneCameras
from kpose.callbacks.shapes import LogShapes

__all__ = ["LogOverlays", "LogShapes", "PruneCameras"]
