"""Stage 1: fit many cameras to the silhouette of every image, the template's shape being fixed."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kpose.geometry import flip_camera
from kpose.metrics._multiplex_error import multiplex_error
from kpose.reconstruction import CameraTable, SearchLevel, ViewpointGrid, search_cameras
from kpose.rendering import Renderer, fast_renderer
from kpose.structures import Batch, Camera, Mesh, Template
from kpose.tasks.base import Task
from kpose.tasks.inputs import template_of, training_images
from kpose.templates._coarsen import coarsen_template

__all__ = ["CameraSearch"]


def culling_renderer(sigma: float) -> Renderer:
    """Build the renderer of a search: the fastest, faces that look away left out."""
    return fast_renderer(sigma, cull_back_faces=True)


class CameraSearch(Task):
    """Search the cameras of a data set by silhouette, in one pass, each image on its own.

    A batch is searched in one training step: its cameras start from the grid, are rendered together and moved by
    an optimizer of their own. Images whose scores are in the table already are passed over: a search that was
    stopped goes on with the others. The crop in which an image is searched becomes its reference crop.

    Data modules give ``mask``, ``crop`` and ``index``; ``camera``, where there is one, is only compared with.

    Args:
        cameras: Table of the images' cameras, from which the search starts; when None, made for the training set
            at the start.
        template: The category's mean shape, or its file; the built-in bird when None.
        num_vertices: Vertices of the template that the search renders (see `coarsen_template`); all when None.
        levels: Resolutions, coarse to fine.
        grid: Cameras that every image starts with, and how far they may turn.
        gain: Factor of the angular residuals within the tanh that bounds them; the released code's 0.1 needs its
            150 steps to turn a camera by half its range.
        renderer: Builds the renderer of a level from its blur.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020, section 3.1; defaults of the released code,
        but for the renderer.

    Example:
        >>> task = CameraSearch(CameraTable(torch.arange(1211)), num_vertices=160)
        >>> task.vertices.shape
        torch.Size([160, 3])
    """

    vertices: Tensor
    faces: Tensor

    def __init__(
        self,
        cameras: CameraTable | None = None,
        template: Template | Path | None = None,
        *,
        num_vertices: int | None = None,
        levels: Sequence[SearchLevel] = (SearchLevel(),),
        grid: ViewpointGrid | None = None,
        gain: float = 0.1,
        renderer: Callable[[float], Renderer] = culling_renderer,
    ) -> None:
        super().__init__()
        self.record_hyperparameters()
        self.automatic_optimization = False
        self.cameras = cameras
        shape = template_of(template)
        if num_vertices is not None:
            shape = coarsen_template(shape, num_vertices)
        self.register_buffer("vertices", shape.vertices, persistent=False)
        self.register_buffer("faces", shape.faces, persistent=False)
        self.levels = tuple(levels)
        self.grid = ViewpointGrid() if grid is None else grid
        self.gain = gain
        self.renderer = renderer

    @property
    def table(self) -> CameraTable:
        """The cameras, which exist once training is set up.

        Raises:
            RuntimeError: If they do not yet.
        """
        if self.cameras is None:
            raise RuntimeError("CameraSearch needs cameras; got none. Give a table, or fit with a data module.")
        return self.cameras

    def setup(self, stage: str) -> None:
        """Make the table for the training set."""
        if self.cameras is None and stage == "fit":
            images = training_images("CameraSearch", getattr(self.trainer, "datamodule", None))
            self.cameras = CameraTable.for_images(images, grid=self.grid)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Make room for the cameras of a checkpoint; see `Task.on_load_checkpoint`."""
        super().on_load_checkpoint(checkpoint)
        index = checkpoint["state_dict"].get("cameras.index")
        if self.cameras is None and index is not None:
            self.cameras = CameraTable(index)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Search the cameras of the images that have none yet."""
        table = self.table
        rows = table.rows(batch["index"])
        new = (~table.scored[rows]).nonzero()[:, 0]
        mask = batch["mask"].float()
        if "flipped" in batch:  # the table's cameras are those of crops that are not mirrored
            mask = torch.where(batch["flipped"][:, None, None], mask.flip(-1), mask)
        crop = batch["crop"].at(new)
        start = table.cameras(rows[new])
        if table.crop_scale[rows[new]].isfinite().all():  # cameras that were found before, in crops of their own
            start = table.in_crop(start, rows[new], crop)
        cameras, losses = start, table.score[rows[new]]
        if len(new):  # another process may have some
            cameras, losses = search_cameras(
                Mesh(self.vertices, self.faces),
                start,
                mask[new],
                ranges=self.grid.ranges().to(mask),
                renderer=self.renderer,
                levels=self.levels,
                gain=self.gain,
            )
        table.set_reference_crop(rows[new], crop)
        table.set_cameras(rows[new], cameras, losses)
        if len(new):
            self._log_cameras(batch, new, cameras, losses)

    def _log_cameras(self, batch: Batch, new: Tensor, cameras: Camera, losses: Tensor) -> None:
        self.log("train/loss", losses.amin(-1).mean(), prog_bar=True, batch_size=len(new))
        if "camera" not in batch:
            return
        truth = batch["camera"]
        if "flipped" in batch:
            mirrored = flip_camera(truth).rotation
            truth = truth._replace(rotation=torch.where(batch["flipped"][:, None, None], mirrored, truth.rotation))
        errors = multiplex_error(cameras.rotation, losses, truth.rotation[new])
        self.log_dict({f"train/{k}": v.mean() for k, v in errors.items()}, prog_bar=True, batch_size=len(new))

    def configure_optimizers(self) -> list[Optimizer]:
        """Leave nothing to Lightning's optimizers."""
        return []
