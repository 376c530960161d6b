"""Stage 2: learn shape and texture of a category, while the cameras of every image go on being optimized."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kpose.backbones import Backbone
from kpose.geometry import mask_iou
from kpose.losses import AppearanceDistance, FeatureDistance
from kpose.metrics._multiplex_error import multiplex_error
from kpose.reconstruction import CameraOptimizer, CameraTable, Comparison, MeshReconstructor, MultiplexObjective
from kpose.structures import Batch, FeatureSpec, Shape, Template
from kpose.tasks.base import Task
from kpose.tasks.inputs import template_of, training_images

__all__ = ["ShapeTraining", "compared_pictures"]

NEEDED = ("crop", "image", "index", "mask")


def compared_pictures(
    batch: Batch, size: int | None
) -> tuple[Float[Tensor, "batch 3 h w"], Bool[Tensor, "batch h w"]]:
    """Return images and masks at the size of their renderings; as they are when None."""
    image, mask = batch["image"], batch["mask"]
    if size is None or image.shape[-2:] == (size, size):
        return image, mask
    cover = interpolate(mask[:, None].float(), (size, size), mode="area")[:, 0]
    return interpolate(image, (size, size), mode="area"), cover > 0.5


def adam(parameters: Iterable[Any]) -> Adam:
    """Build the optimizer of the released code: Adam with a learning rate of 1e-4."""
    return Adam(parameters, lr=1e-4)


class ShapeTraining(Task):
    """Train shape, texture and mean shape on images and masks, seen by several cameras an image.

    Each step renders the predicted mesh once with all cameras of the batch's images. The network's loss weighs the
    cameras of an image by how well they explain it; every camera's own loss is not weighed. Both gradients are
    taken before anything is stepped: the network's by the optimizer, the cameras' by a `CameraOptimizer`.

    Data modules give ``image``, ``mask``, ``crop`` and ``index``. ``features`` replaces the image for the network
    where it has been computed before; ``camera``, where there is one, is only compared with (``train/best_deg`` and
    the others of `multiplex_error`).

    Args:
        backbone: Where the features come from.
        cameras: Cameras of the training images, as a table, which is refined, or a file of one (see
            `CameraTable.save`); when None, those of a `ViewpointGrid`.
        template: The category's mean shape, or its file; the built-in bird when None.
        reconstructor: Builds the network from the backbone's `FeatureSpec` and the template.
        distance: How unlike rendered and photographed objects are; features of the backbone when None.
        objective: Builds the losses from the template and the distance, with their weights and renderer.
        train_backbone: Whether the backbone is trained; otherwise it is frozen, as in the released code.
        optimizer: Builds the optimizer of the network from the trained parameters.
        lr_scheduler: Builds its schedule from the optimizer and the number of steps of the whole run, advanced at
            every step; None keeps the learning rate.
        camera_lr: Learning rate of the cameras.
        camera_gain: Factor of the cameras' angular residuals (see `CameraOptimizer`).
        clip_norm: Largest norm of the network's gradient; None does not clip.
        accumulate: Batches whose gradients are averaged for one step of the network. Cameras step every batch.
        feature_dropout: Share of the channels of every feature map that training leaves out, in [0, 1): it keeps
            shapes on frozen features from learning few images by heart.
        rescore: Whether the table's scores become how well the cameras explain the images by silhouette and
            appearance; otherwise cameras keep the ranking that they came with, that of a choice by appearance.
        render_size: Side to which images and masks are reduced before they are compared with renderings of that
            size; None compares them as they are. Features are those of the whole image in any case.

    Raises:
        ValueError: If ``train_backbone`` is set for a frozen backbone, or ``accumulate`` or ``render_size`` is not
            positive.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020; Gharaee et al. 2022, Eq. 1. Defaults are
        those of the released code; it takes LPIPS for the distance.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> task = ShapeTraining(TinyBackbone(width=8), CameraTable(torch.arange(4)))
        >>> task(torch.zeros(2, 3, 64, 64)).vertices.shape
        torch.Size([2, 642, 3])
    """

    def __init__(
        self,
        backbone: Backbone,
        cameras: CameraTable | Path | None = None,
        template: Template | Path | None = None,
        *,
        reconstructor: Callable[[FeatureSpec, Template], MeshReconstructor] = MeshReconstructor,
        distance: AppearanceDistance | None = None,
        objective: Callable[[Template, AppearanceDistance], MultiplexObjective] = MultiplexObjective,
        train_backbone: bool = False,
        optimizer: Callable[[Iterable[Any]], Optimizer] = adam,
        lr_scheduler: Callable[[Optimizer, int], LRScheduler] | None = None,
        camera_lr: float = 1e-4,
        camera_gain: float = 1.0,
        clip_norm: float | None = 100.0,
        accumulate: int = 1,
        feature_dropout: float = 0.0,
        rescore: bool = True,
        render_size: int | None = None,
    ) -> None:
        super().__init__()
        self.record_hyperparameters()
        self.automatic_optimization = False
        if accumulate < 1:
            raise ValueError(f"ShapeTraining needs accumulate from 1; got {accumulate}. Raise it.")
        if render_size is not None and render_size < 1:
            raise ValueError(f"ShapeTraining needs a positive render_size; got {render_size}. Raise it.")
        if train_backbone and backbone.frozen:
            raise ValueError("ShapeTraining needs a backbone that is not frozen to train it; got a frozen one.")
        self.backbone = backbone if train_backbone else backbone.freeze()
        template = template_of(template)
        self.reconstructor = reconstructor(backbone.spec, template)
        self.camera_file = None if isinstance(cameras, CameraTable) else cameras
        self.camera_optimizer: CameraOptimizer | None = None
        self.objective = objective(template, FeatureDistance(backbone) if distance is None else distance)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.camera_lr = camera_lr
        self.camera_gain = camera_gain
        if isinstance(cameras, CameraTable):
            self._optimize(cameras)
        self.clip_norm = clip_norm
        self.accumulate = accumulate
        self.feature_dropout = nn.Dropout2d(feature_dropout)
        self.rescore = rescore
        self.render_size = render_size

    @property
    def table(self) -> CameraTable:
        """The cameras, as far as they are refined; they exist once training is set up.

        Raises:
            RuntimeError: If they do not yet.
        """
        return self._cameras().table

    def _cameras(self) -> CameraOptimizer:
        if self.camera_optimizer is None:
            raise RuntimeError("ShapeTraining needs cameras; got none. Give a table, or fit with a data module.")
        return self.camera_optimizer

    def setup(self, stage: str) -> None:
        """Make the table for the training set, or read it."""
        if self.camera_optimizer is None and stage == "fit":
            # A checkpoint that is resumed is read after this and wins.
            images = training_images("ShapeTraining", getattr(self.trainer, "datamodule", None))
            self._optimize(CameraTable.for_images(images, file=self.camera_file))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make room for the cameras of a checkpoint; see `Task.on_load_checkpoint`."""
        super().on_load_checkpoint(checkpoint)
        index = checkpoint["state_dict"].get("camera_optimizer.table.index")
        if self.camera_optimizer is None and index is not None:
            self._optimize(CameraTable(index))

    def _optimize(self, table: CameraTable) -> None:
        self.camera_optimizer = CameraOptimizer(table, lr=self.camera_lr, gain=self.camera_gain)
        # Processes keep them alike: DDP would send all of them from one to the others at every step.
        own = self.camera_optimizer.named_buffers(prefix="camera_optimizer")
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in own]

    def forward(self, image: Float[Tensor, "batch 3 H W"]) -> Shape:
        """Reconstruct the object of every image.

        Args:
            image: RGB crops in [0, 1].

        Returns:
            Shapes and textures.
        """
        return self._reconstruct(Batch(image=image))

    def predict_step(self, batch: Batch, batch_idx: int) -> Shape:
        """Reconstruct only."""
        return self._reconstruct(batch)

    def compare(
        self, batch: Batch, rows: Int[Tensor, "batch"], residuals: Float[Tensor, "batch P 6"] | None = None
    ) -> Comparison:
        """Reconstruct the objects of a batch, render them with all their cameras and compare.

        Args:
            batch: At least image, mask, crop and index.
            rows: Rows of the images in the table.
            residuals: Residuals of the cameras that gradients are taken by; those of the table when None.

        Returns:
            The comparison, differentiable in network and residuals.
        """
        shape = self._reconstruct(batch)
        cameras = self._cameras().cameras(rows, residuals)
        cameras = self.table.in_crop(cameras, rows, batch["crop"], batch.get("flipped"))
        mesh = self.reconstructor.mesh(shape)
        pictures = compared_pictures(batch, self.render_size)
        comparison: Comparison = self.objective(shape, mesh, cameras, *pictures)
        return comparison

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Compare, take both gradients, then step the network and the cameras."""
        missing = [name for name in NEEDED if name not in batch]
        if missing:
            raise KeyError(
                f"ShapeTraining needs batch entries {list(NEEDED)}; this batch has {sorted(batch)}. Take a data "
                f"module that gives {missing}."
            )
        optimizer, table = self._cameras(), self.table
        rows = table.rows(batch["index"])
        residuals = optimizer.residuals(rows)
        comparison = self.compare(batch, rows, residuals)
        terms = {name: value.detach() for name, value in self.objective.terms(comparison).items()}
        loss, gradient = self.objective.gradients(comparison, residuals)
        self.manual_backward(loss / self.accumulate)
        if (batch_idx + 1) % self.accumulate == 0 or self.trainer.is_last_batch:
            self._step_network()
        optimizer.step(rows, gradient)
        if self.rescore:
            table.set_score(rows, comparison.score)
        comparison = comparison.detach()
        self._log_step(comparison, terms, batch)
        return {"loss": torch.stack(list(terms.values())).sum(), "comparison": comparison}

    def _step_network(self) -> None:
        optimizer = cast(Optimizer, self.optimizers())
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, gradient_clip_val=self.clip_norm, gradient_clip_algorithm="norm")
        optimizer.step()
        optimizer.zero_grad()
        if self.lr_scheduler is not None:
            cast(LRScheduler, self.lr_schedulers()).step()

    @torch.no_grad()
    def _log_step(self, comparison: Comparison, terms: dict[str, Tensor], batch: Batch) -> None:
        count = len(comparison.weights)
        images = torch.arange(count, device=comparison.score.device)
        best = comparison.score.argmin(-1)
        soft = mask_iou(comparison.silhouettes[images, best], comparison.mask)
        hard = mask_iou(comparison.covered[images, best], comparison.mask, soft=False)
        values = {
            **terms,
            "camera_loss": self.objective.camera_loss(comparison).mean(),
            "iou": hard.mean(),
            "iou_soft": soft.mean(),
        }
        if "camera" in batch:
            errors = multiplex_error(comparison.cameras.rotation, comparison.score, batch["camera"].rotation)
            values |= {name: value.mean() for name, value in errors.items()}
        self.log("train/loss", torch.stack(list(terms.values())).sum(), batch_size=count, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in values.items()}, batch_size=count)

    def _reconstruct(self, batch: Batch) -> Shape:
        features = self.backbone.features_of(batch)
        thinned = features.map(self.feature_dropout)
        shape: Shape = self.reconstructor(thinned)
        return shape

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """Build the optimizer over everything of the network that is trained, and its schedule."""
        optimizer = self.optimizer(p for p in self.parameters() if p.requires_grad)
        if self.lr_scheduler is None:
            return optimizer
        batches = self.trainer.estimated_stepping_batches  # of the whole run; Lightning knows no other
        schedule = self.lr_scheduler(optimizer, math.ceil(batches / self.accumulate))
        return {"optimizer": optimizer, "lr_scheduler": schedule}
