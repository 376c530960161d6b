"""From many cameras an image to a few, within one run."""

import logging
import math

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from kpose.geometry import geodesic_distance
from kpose.reconstruction import CameraTable
from kpose.tasks import ShapeTraining

__all__ = ["PruneCameras"]

_log = logging.getLogger(__name__)


class PruneCameras(Callback):
    """Keep the best cameras of every image from a set epoch on.

    What was there before and after is logged as ``cameras/before_<name>`` and ``cameras/after_<name>``, and in one
    line of text: how many cameras an image has (``count``), the mean over images of their mean loss (``loss``) and
    of their least (``best_loss``), and their mean angle to the best one (``spread_deg``). A run that is resumed
    from the end of an epoch prunes when one that was not interrupted does.

    Args:
        epoch: Epoch at whose start cameras are pruned, counted from 0: every image's losses are known by then.
        keep: Cameras that each image keeps; images that have no more keep what they have.
        min_angle_deg: Least angle between kept cameras, in degrees (see `CameraTable.prune`); 0 is the paper's.
        camera_lr: Learning rate of the cameras from then on; as before when None.

    Raises:
        ValueError: If ``epoch`` is negative.

    Example:
        >>> callback = PruneCameras(epoch=21, keep=4)  # for the trainer of a `ShapeTraining`
    """

    def __init__(
        self, epoch: int, *, keep: int = 4, min_angle_deg: float = 0.0, camera_lr: float | None = None
    ) -> None:
        if epoch < 0:
            raise ValueError(f"PruneCameras needs an epoch from 0; got {epoch}. Raise it.")
        self.epoch = epoch
        self.keep = keep
        self.min_angle_deg = min_angle_deg
        self.camera_lr = camera_lr

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the cameras' learning rate of a run that is resumed within an epoch."""
        if isinstance(pl_module, ShapeTraining) and trainer.current_epoch >= self.epoch:
            self._set_rate(pl_module)

    def _set_rate(self, task: ShapeTraining) -> None:
        if self.camera_lr is not None and task.camera_optimizer is not None:
            task.camera_optimizer.lr = self.camera_lr

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prune when it is time."""
        if not isinstance(pl_module, ShapeTraining) or trainer.current_epoch < self.epoch:
            return
        table, optimizer = pl_module.table, pl_module.camera_optimizer
        assert optimizer is not None
        self._set_rate(pl_module)
        if trainer.current_epoch > self.epoch or table.num_cameras <= self.keep:
            return
        before = _describe(table)
        optimizer.prune(self.keep, min_angle_deg=self.min_angle_deg)
        after = _describe(table)
        for name, found in (("before", before), ("after", after)):
            pl_module.log_dict({f"cameras/{name}_{key}": value for key, value in found.items()}, sync_dist=True)
        _log.info(
            "Epoch %d: pruned %d cameras an image to %d. Mean loss %.3f to %.3f (best %.3f), mean angle to the "
            "best camera %.0f° to %.0f°.",
            *(trainer.current_epoch, before["count"], after["count"], before["loss"], after["loss"]),
            *(after["best_loss"], before["spread_deg"], after["spread_deg"]),
        )


@torch.no_grad()
def _describe(table: CameraTable) -> dict[str, float]:
    angles = geodesic_distance(table.rotation, table.best().rotation[:, None].expand_as(table.rotation))
    others = max(1, table.num_cameras - 1)
    return {
        "count": float(table.num_cameras),
        "loss": float(table.score.mean()),
        "best_loss": float(table.score.gather(1, table.order[:, :1]).mean()),
        "spread_deg": math.degrees(float(angles.sum(-1).mean()) / others),
    }
