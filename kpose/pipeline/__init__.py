"""All stages in one run: from images and masks to trained pose heads, without pose labels."""

from kpose.pipeline.run import Pipeline, TrainingCameras
from kpose.pipeline.settings import ChoiceSettings, PoseSettings, ReconstructionSettings, SearchSettings

__all__ = [
    "ChoiceSettings",
    "Pipeline",
    "PoseSettings",
    "ReconstructionSettings",
    "SearchSettings",
    "TrainingCameras",
]
