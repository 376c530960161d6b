"""Training stages, each a LightningModule."""

from kpose.tasks.base import Task
from kpose.tasks.pose import PoseEstimator

__all__ = ["PoseEstimator", "Task"]
