"""Cameras and shapes learned from silhouettes and pictures, without labels."""

from kpose.reconstruction.camera_optimizer import CameraOptimizer
from kpose.reconstruction.camera_search import SearchLevel, search_cameras
from kpose.reconstruction.camera_table import CameraTable
from kpose.reconstruction.camera_weights import camera_weights
from kpose.reconstruction.objective import Comparison, MultiplexObjective
from kpose.reconstruction.reconstructor import MeshReconstructor
from kpose.reconstruction.shape import MeanShape, MirrorSymmetry, ShapeHead
from kpose.reconstruction.texture import TextureHead
from kpose.reconstruction.viewpoint_grid import ViewpointGrid

__all__ = [
    "CameraOptimizer",
    "CameraTable",
    "Comparison",
    "MeanShape",
    "MeshReconstructor",
    "MirrorSymmetry",
    "MultiplexObjective",
    "SearchLevel",
    "ShapeHead",
    "TextureHead",
    "ViewpointGrid",
    "camera_weights",
    "search_cameras",
]
