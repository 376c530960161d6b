"""Pictures of predicted poses in the logger."""

from typing import Any

import torch
from jaxtyping import Float
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from kpose.callbacks.loggers import log_image, picture_loggers
from kpose.geometry import box_to_crop, normalized_to_pixels, uncrop_camera
from kpose.heads import KeypointPrediction
from kpose.structures import Batch, Mesh, PosePrediction
from kpose.tasks import PoseEstimator
from kpose.visualization import draw_keypoints, heatmap_image, image_grid, overlay_mesh

__all__ = ["LogOverlays", "picture_prediction"]


class LogOverlays(Callback):
    """Log the first validation images with the predicted pose drawn on them.

    One sheet an epoch, named ``val/overlays``, goes to every logger that takes pictures (TensorBoard, Weights &
    Biases); the others are passed over, as are batches without images.

    Args:
        num_images: How many images are drawn, at most those of the first batch.
        every_n_epochs: How many epochs lie between two sheets.

    Example:
        >>> callbacks = [LogOverlays(num_images=4)]  # for the trainer of a `PoseEstimator`
    """

    def __init__(self, num_images: int = 8, every_n_epochs: int = 1) -> None:
        self.num_images = num_images
        self.every_n_epochs = every_n_epochs

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw and log the first batch."""
        due = batch_idx == 0 and dataloader_idx == 0 and trainer.current_epoch % self.every_n_epochs == 0
        loggers = picture_loggers(trainer)
        if not due or trainer.sanity_checking or not loggers or "image" not in batch:
            return
        if not isinstance(pl_module, PoseEstimator):
            return
        images = batch["image"][: self.num_images].float()
        meshes = [Mesh(vertices, pl_module.network.faces) for vertices in outputs["vertices"][: self.num_images]]
        rows = [
            picture_prediction(image, outputs["prediction"], mesh, row)
            for row, (image, mesh) in enumerate(zip(images, meshes, strict=True))
        ]
        sheet = image_grid(rows, columns=2)
        for logger in loggers:
            log_image(logger, "val/overlays", sheet, trainer.global_step)


def picture_prediction(
    image: Float[Tensor, "3 H W"], prediction: PosePrediction, mesh: Mesh, row: int
) -> Float[Tensor, "3 H W2"]:
    """Draw one prediction of a batch: the crop, the keypoints if there are any, and the mesh on the crop."""
    with torch.no_grad():
        camera = prediction.camera.at(row).to(torch.float32)
        height, width = image.shape[-2:]
        frame = box_to_crop(image.new_tensor([0, 0, width, height]))
        pictures = [image]
        if isinstance(prediction, KeypointPrediction):
            keypoints = normalized_to_pixels(prediction.keypoints[row], (height, width))
            heat = (image + heatmap_image(prediction.heatmaps[row].float(), (height, width))) / 2
            inliers = prediction.inliers[row]
            pictures += [heat, draw_keypoints(image, keypoints, prediction.confidence[row], inliers=inliers)]
        pictures.append(overlay_mesh(image, mesh, uncrop_camera(camera, frame)))
    return torch.cat(pictures, -1)
