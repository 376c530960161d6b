"""Stage 1, resumed where it was interrupted."""

from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.utils.data import DataLoader, Subset

from kpose.pipeline.folder import CAMERAS
from kpose.pipeline.settings import SearchSettings
from kpose.reconstruction import CameraTable
from kpose.structures import Batch, Template
from kpose.tasks import CameraSearch

__all__ = ["search"]

_PARTIAL = "partial.safetensors"


def search(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    settings: SearchSettings,
    folder: Path,
    *,
    template: Template,
    accelerator: str,
    start: CameraTable | None = None,
    best_of: CameraTable | None = None,
) -> None:
    """Search the cameras of the training images, and write them as ``cameras.safetensors``.

    An interrupted search has left those that it had found in the folder. Cameras start from ``start``, whose scores
    are unknown, or from the settings' grid. With ``best_of`` that table is written in place of all cameras found,
    after it has taken the best one of each image as its own best.
    """
    data.prepare_data()
    images: Any = data.dataset("train")
    table = CameraTable.for_images(images, grid=settings.grid) if start is None else start
    partial = folder / _PARTIAL
    if partial.exists():
        table.load(partial)
    task = CameraSearch(
        table,
        template,
        num_vertices=settings.num_vertices,
        levels=settings.levels,
        grid=settings.grid,
        gain=settings.gain,
    )
    # Batches are whole, so what is left consists of the batches that a run without interruption has.
    left = (~table.scored[table.rows(images.indices)]).nonzero()[:, 0].tolist()
    loader: DataLoader[Batch] = DataLoader(Subset(images, left), batch_size=settings.batch_size)
    trainer = Trainer(
        max_epochs=1,
        accelerator=accelerator,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        callbacks=[_SaveTable(partial)],
    )
    if left:
        trainer.fit(task, loader)
    if best_of is not None:
        best_of.add_best(table)
    (table if best_of is None else best_of).save(folder / CAMERAS)
    partial.unlink(missing_ok=True)  # until now the only copy


class _SaveTable(Callback):
    """Keep the cameras found so far, for a run that is interrupted."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # noqa: ANN401
        assert isinstance(pl_module, CameraSearch)
        pl_module.table.save(self.path)
