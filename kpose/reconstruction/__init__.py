"""Cameras and shapes learned from silhouettes and pictures, without labels."""

from kpose.reconstruction.camera_multiplex import CameraMultiplex, ViewpointGrid, camera_weights
from kpose.reconstruction.camera_search import SearchLevel, search_cameras

__all__ = ["CameraMultiplex", "SearchLevel", "ViewpointGrid", "camera_weights", "search_cameras"]
