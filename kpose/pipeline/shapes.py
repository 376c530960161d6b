"""Stage 2: shape and texture, while the cameras are refined."""

import copy
from collections.abc import Callable
from pathlib import Path

from pytorch_lightning import LightningDataModule

from kpose._distributed import rank
from kpose.backbones import Backbone
from kpose.callbacks import LogShapes, PruneCameras
from kpose.pipeline.engine import Engine
from kpose.pipeline.folder import CAMERAS
from kpose.pipeline.settings import ShapeSettings
from kpose.pipeline.training import fit, trained_weights
from kpose.reconstruction import CameraTable, MeshReconstructor
from kpose.structures import FeatureSpec, Template
from kpose.tasks import ShapeTraining

__all__ = ["load_shapes", "new_shapes", "reconstructor_of", "train_shapes"]

_SHEETS = 5  # of what is learned, about


def new_shapes(
    settings: ShapeSettings, backbone: Backbone, cameras: CameraTable, template: Template, *, ranked: bool
) -> ShapeTraining:
    """Build the task of stage 2 on a copy of the backbone, for cameras that appearance or heads have ranked."""
    task = settings.task(copy.deepcopy(backbone), cameras, template)
    if settings.rescore is not None or ranked:
        task.rescore = bool(settings.rescore)
    return task


def train_shapes(
    task: ShapeTraining, data: LightningDataModule, settings: ShapeSettings, folder: Path, engine: Engine
) -> None:
    """Train shape and texture; write checkpoint, sheets of pictures and the refined cameras to the folder."""
    callbacks = [
        PruneCameras(settings.prune_epoch, keep=settings.keep, min_angle_deg=settings.min_angle_deg),
        LogShapes(every_n_epochs=max(1, settings.epochs // _SHEETS), folder=folder),
    ]
    fit(task, data, folder, epochs=settings.epochs, engine=engine, callbacks=callbacks)
    if rank() == 0:
        task.table.save(folder / CAMERAS)


def load_shapes(task: ShapeTraining, folder: Path) -> ShapeTraining:
    """Load what `train_shapes` has trained into a task, and put it in evaluation."""
    weights = trained_weights(folder)
    for name in ("backbone", "reconstructor"):
        own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
        getattr(task, name).load_state_dict(own)
    return task.eval()


def reconstructor_of(task: ShapeTraining) -> Callable[[FeatureSpec, Template], MeshReconstructor]:
    """Return a factory of copies of a trained reconstructor."""
    return lambda spec, template: copy.deepcopy(task.reconstructor)
