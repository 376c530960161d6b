"""Training stages, each a LightningModule."""

from kpose.tasks.base import Task
from kpose.tasks.camera_search import CameraSearch
from kpose.tasks.pose import PoseEstimator
from kpose.tasks.schedule import one_cycle
from kpose.tasks.shape_adaptation import ShapeAdaptation
from kpose.tasks.shape_training import ShapeTraining

__all__ = [
    "CameraSearch",
    "PoseEstimator",
    "ShapeAdaptation",
    "ShapeTraining",
    "Task",
    "one_cycle",
]
