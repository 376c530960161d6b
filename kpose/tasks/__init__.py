"""Training stages, each a LightningModule."""

from kpose.tasks.base import Task
from kpose.tasks.camera_choice import choose_cameras, training_views
from kpose.tasks.camera_search import CameraSearch
from kpose.tasks.pose import PoseEstimator
from kpose.tasks.predicted_rotations import mean_rotations
from kpose.tasks.shape_adaptation import ShapeAdaptation
from kpose.tasks.shape_training import ShapeTraining

__all__ = [
    "CameraSearch",
    "PoseEstimator",
    "ShapeAdaptation",
    "ShapeTraining",
    "Task",
    "choose_cameras",
    "mean_rotations",
    "training_views",
]
