"""All stages in one run: from images and masks to trained pose heads, without pose labels."""

from kpose.pipeline.engine import fast_precision
from kpose.pipeline.folder import TrainedHead, TrainingCameras
from kpose.pipeline.run import Pipeline
from kpose.pipeline.settings import (
    AdaptationSettings,
    ChoiceSettings,
    PoseSettings,
    RerankSettings,
    SearchSettings,
    ShapeSettings,
    TrainerSettings,
)

__all__ = [
    "AdaptationSettings",
    "ChoiceSettings",
    "Pipeline",
    "PoseSettings",
    "RerankSettings",
    "SearchSettings",
    "ShapeSettings",
    "TrainedHead",
    "TrainerSettings",
    "TrainingCameras",
    "fast_precision",
]
