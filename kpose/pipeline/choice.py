"""The choice among searched cameras by appearance."""

from pathlib import Path
from typing import Any

import torch

from kpose._distributed import rank
from kpose.backbones import Backbone
from kpose.pipeline.folder import CAMERAS
from kpose.pipeline.settings import ChoiceSettings
from kpose.reconstruction import CameraTable, choose_cameras, training_views
from kpose.structures import Template

__all__ = ["choose"]


def choose(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    backbone: Backbone,
    cameras: Path,
    settings: ChoiceSettings,
    folder: Path,
    *,
    template: Template,
    device: torch.device,
) -> None:
    """Choose the cameras of the training images by appearance, and write them as ``cameras.safetensors``."""
    data.prepare_data()
    data.setup("fit")
    table = CameraTable.for_images(data.dataset("train"), file=cameras)
    choose_cameras(
        table.to(device), training_views(data), backbone.to(device).eval(), template=template, **vars(settings)
    )
    if rank() == 0:
        table.cpu().save(folder / CAMERAS)
