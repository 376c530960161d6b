"""Stage 1, resumed where it was interrupted."""

import time
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, DistributedSampler

from kpose._distributed import broadcast, num_processes, rank
from kpose.pipeline.engine import Engine, SideBySide
from kpose.pipeline.folder import CAMERAS
from kpose.pipeline.interruption import Interruption, SaveAndEnd
from kpose.pipeline.settings import SearchSettings
from kpose.reconstruction import CameraTable
from kpose.structures import Batch, Template
from kpose.tasks import CameraSearch

__all__ = ["search"]

_PARTIAL = "partial.safetensors"
_INTERVAL = 600.0  # seconds


def search(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    settings: SearchSettings,
    folder: Path,
    *,
    template: Template,
    engine: Engine,
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
    if broadcast(partial.exists()):
        table.load(partial, some=True)
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
    loader: DataLoader[Batch] = DataLoader(
        images,
        batch_sampler=_batches_of_process(left, settings.batch_size),
        num_workers=getattr(data, "num_workers", 0),
        pin_memory=torch.cuda.is_available(),
    )
    trainer = engine.trainer(
        folder,
        strategy=SideBySide(),
        callbacks=[_SaveTable(engine.interruption, partial)],
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
    )
    if left:
        with engine.interruption.training():
            trainer.fit(task, loader)
    if best_of is not None:
        best_of.add_best(table)
    if rank() == 0:
        (table if best_of is None else best_of).save(folder / CAMERAS)
        partial.unlink(missing_ok=True)  # until now the only copy


def _batches_of_process(left: list[int], size: int) -> list[list[int]]:
    """Return every batch that is this process's; some come twice, so that all processes have as many."""
    batches = [left[k : k + size] for k in range(0, len(left), size)]
    own: Any = DistributedSampler(batches, num_processes(), rank(), shuffle=False)  # type: ignore[arg-type]
    return [batches[number] for number in own] if batches else []


class _SaveTable(SaveAndEnd):
    """Keep the cameras found so far, for a run that is interrupted.

    What is written in all is in proportion to the images: they are written again when there are a tenth more.
    """

    def __init__(self, interruption: Interruption, path: Path) -> None:
        super().__init__(interruption, path)
        self.written, self.time = 0, time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:  # noqa: ANN401
        """Write them now and then."""
        assert isinstance(pl_module, CameraSearch)
        found = int(pl_module.table.scored.sum())
        if found >= 1.1 * self.written or time.monotonic() > self.time + _INTERVAL:
            self.save(trainer)
            self.written, self.time = found, time.monotonic()
        super().on_train_batch_end(trainer, pl_module, *args)

    def save(self, trainer: Trainer) -> None:
        """Write the cameras that were found."""
        table = cast("CameraSearch", trainer.lightning_module).table
        if trainer.is_global_zero:
            table.save(self.path, rows=table.scored.nonzero()[:, 0])
