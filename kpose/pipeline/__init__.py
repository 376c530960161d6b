"""All stages in one run: from images and masks to trained pose heads, without pose labels."""

from kpose.pipeline.folder import TrainingCameras
from kpose.pipeline.run import Pipeline
from kpose.pipeline.settings import (
    AdaptationSettings,
    ChoiceSettings,
    PoseSettings,
    ReconstructionSettings,
    RerankSettings,
    SearchSettings,
)

__all__ = [
    "AdaptationSettings",
    "ChoiceSettings",
    "Pipeline",
    "PoseSettings",
    "ReconstructionSettings",
    "RerankSettings",
    "SearchSettings",
    "TrainingCameras",
]
