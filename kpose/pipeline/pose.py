"""Stages 3 and 4: pose heads on the best camera of every image, and shapes for the cameras of each head."""

import copy
from functools import partial
from pathlib import Path

from torch.optim import AdamW

from kpose.backbones import Backbone
from kpose.network import HeadFactory
from kpose.pipeline.folder import CHECKPOINT
from kpose.pipeline.settings import AdaptationSettings, PoseSettings
from kpose.pipeline.shapes import reconstructor_of
from kpose.structures import Template
from kpose.tasks import PoseEstimator, ShapeAdaptation, ShapeTraining

__all__ = ["new_adaptation", "new_pose"]


def new_pose(
    settings: PoseSettings,
    backbone: Backbone,
    head: HeadFactory,
    *,
    template: Template,
    cameras: Path,
    shapes: ShapeTraining | None = None,
) -> PoseEstimator:
    """Build the task of stage 3 for a head, on copies of the backbone, or of those parts of stage 2."""
    return PoseEstimator(
        copy.deepcopy(backbone if shapes is None else shapes.backbone),
        head,
        optimizer=partial(AdamW, lr=settings.learning_rate, weight_decay=settings.weight_decay),
        template=template,
        reconstructor=None if shapes is None else reconstructor_of(shapes),
        cameras=cameras,
        feature_dropout=settings.feature_dropout,
    )


def new_adaptation(
    settings: AdaptationSettings, head: HeadFactory, *, template: Template, shapes: ShapeTraining, trained: Path
) -> ShapeAdaptation:
    """Build the task of stage 4 for a head that stage 3 has trained in a folder."""
    backbone = copy.deepcopy(shapes.backbone)
    return settings.task(backbone, head, reconstructor_of(shapes), template, trained / CHECKPOINT)
