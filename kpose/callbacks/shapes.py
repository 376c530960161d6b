"""Pictures of what stage 2 learns: shapes, textures, and where the cameras stand."""

import functools
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from kpose._files import write_file
from kpose.callbacks.loggers import log_image, picture_loggers
from kpose.geometry import matrix_to_viewpoint
from kpose.reconstruction import Comparison
from kpose.structures import Batch, Mesh
from kpose.tasks import ShapeTraining
from kpose.visualization import from_pillow, image_grid, mesh_views, to_pillow

__all__ = ["LogShapes", "picture_azimuths", "picture_shape"]

GRAY = 0.85
BAR = (235, 125, 40)


class LogShapes(Callback):
    """Log the first training images with their masks, best renderings and shapes, and the cameras' azimuths.

    Two sheets go to every logger that takes pictures: ``train/shapes``, one row an image (photo,
    mask, rendering with the best camera, the shape from the side, the front and above), and ``train/azimuths``, a
    histogram of the best cameras of all images whose cameras are known. Nothing is drawn from random generators.

    Args:
        num_images: How many images are drawn, at most those of the first batch.
        every_n_epochs: How many epochs lie between two sheets; the last epoch always has some.
        folder: Where the latest sheets are also kept, as ``shapes.png`` and ``azimuths.png``.

    Example:
        >>> callbacks = [LogShapes(every_n_epochs=5)]  # for the trainer of a `ShapeTraining`
    """

    def __init__(self, num_images: int = 4, every_n_epochs: int = 1, folder: Path | None = None) -> None:
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs
        self.folder = folder

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Draw and log the first batch."""
        epoch = trainer.current_epoch
        due = batch_idx == 0 and (epoch % self.every_n_epochs == 0 or epoch + 1 == trainer.max_epochs)
        if not due or not isinstance(pl_module, ShapeTraining):
            return
        loggers = picture_loggers(trainer)
        folder = self.folder if trainer.is_global_zero else None
        if not loggers and folder is None:
            return
        comparison: Comparison = outputs["comparison"]
        faces = pl_module.reconstructor.faces
        count = min(self.num_images, len(comparison.image))
        rows = [picture_shape(comparison, faces, row) for row in range(count)]
        sheets = {"train/shapes": image_grid(rows, columns=1)}
        table = pl_module.table
        if bool(table.scored.any()):
            rotation = table.best().rotation[table.scored]
            sheets["train/azimuths"] = picture_azimuths(rotation)
        for logger in loggers:
            for name, sheet in sheets.items():
                log_image(logger, name, sheet, trainer.global_step)
        if folder is not None:
            for name, sheet in sheets.items():
                path = Path(folder, f"{name.rpartition('/')[2]}.png")
                write_file(path, functools.partial(to_pillow(sheet).save, format="png"))


@torch.no_grad()
def picture_shape(comparison: Comparison, faces: Tensor, row: int) -> Float[Tensor, "3 H _"]:
    """Draw one image of a batch: photo, mask, rendering with the best camera, the shape from three sides."""
    image = comparison.image[row].float()
    best = int(comparison.score[row].argmin())
    # The blur of the outline is left out: where it is outside, colors are black.
    color = comparison.pictures[row, best] / comparison.silhouettes[row, best].clamp_min(0.5)
    rendering = torch.where(comparison.covered[row, best], color.clamp(0, 1), GRAY)
    views = mesh_views(Mesh(comparison.shape.vertices[row], faces), image.shape[-2])
    mask = comparison.mask[row].to(image).expand(3, -1, -1)
    return torch.cat((image, mask, rendering.to(image), *views.to(image)), -1)


def picture_azimuths(rotation: Float[Tensor, "N 3 3"], *, bins: int = 24) -> Float[Tensor, "3 160 360"]:
    """Draw a histogram of azimuths: 0° is the front, 90° and -90° are the sides, ±180° is the rear."""
    azimuth = matrix_to_viewpoint(rotation.detach().float())[0].cpu()
    counts = torch.histc(azimuth, bins, -math.pi, math.pi)
    canvas = Image.new("RGB", (360, 160), "white")
    drawing, font = ImageDraw.Draw(canvas), ImageFont.load_default(12)
    left, top, wide, high = 10, 24, 340, 112
    for number, share in enumerate((counts / counts.max().clamp_min(1)).tolist()):
        ends = [left + wide * (number + k) / bins for k in (0, 1)]
        if share > 0:
            drawing.rectangle((ends[0] + 1, top + high * (1 - share), ends[1] - 1, top + high), fill=BAR)
    drawing.line((left, top + high, left + wide, top + high), fill=(40, 40, 40))
    for degrees in (-180, -90, 0, 90, 180):
        place = left + wide * (degrees + 180) / 360
        anchor = {-180: "lt", 180: "rt"}.get(degrees, "mt")
        drawing.text((place, top + high + 4), f"{degrees}°", fill=(40, 40, 40), font=font, anchor=anchor)
    title = f"best cameras of {len(azimuth)} images, highest bar {int(counts.max())}"
    drawing.text((left, 4), title, fill=(40, 40, 40), font=font)
    return from_pillow(canvas)
