"""Cameras and shapes learned from silhouettes and pictures, without labels."""

from kpose.reconstruction.camera_choice import choose_cameras, training_views
from kpose.reconstruction.camera_optimizer import CameraOptimizer
from kpose.reconstruction.camera_search import SearchLevel, search_cameras
from kpose.reconstruction.camera_table import CameraTable
from kpose.reconstruction.objective import Comparison, MultiplexObjective
from kpose.reconstruction.reconstructor import MeshReconstructor
from kpose.reconstruction.shape import ShapeHead
from kpose.reconstruction.texture import TextureHead
from kpose.reconstruction.viewpoint_grid import ViewpointGrid

__all__ = [
    "CameraOptimizer",
    "CameraTable",
    "Comparison",
    "MeshReconstructor",
    "MultiplexObjective",
    "SearchLevel",
    "ShapeHead",
    "TextureHead",
    "ViewpointGrid",
    "choose_cameras",
    "search_cameras",
    "training_views",
]
