r"""Train a keypoint head on several cameras of each photograph in the place of the best one (soft EM).

    python examples/reproduction/labels.py --config examples/configs/pipeline/cub-improved.yaml --out labels \
        --data.init_args.root $KPOSE_CUB_ROOT --backbone.init_args.name $KPOSE_BACKBONE

Cameras are those of `kpose pipeline`, whose arguments these are and whose results are used again. Each photo keeps
its 1, 2 or 4 best distinct cameras. A step trains on one of them, drawn by its posterior: what its score says
(Gharaee et al. 2022, Eq. 1), times how near it is to what the head itself predicted after the last epoch. The
folder has ``labels.json``: errors of the cameras and of the heads, in degrees.
"""

import copy
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from kpose._files import write_text
from kpose.cli.pipeline import build_pipeline, parse_pipeline
from kpose.geometry import geodesic_distance
from kpose.metrics import angular_error
from kpose.pipeline import Pipeline
from kpose.pipeline.pose import new_pose
from kpose.pipeline.reranking import mean_rotations
from kpose.reconstruction import CameraTable, training_views
from kpose.structures import Batch

from figures import origin

logger = logging.getLogger("labels")


@dataclass(frozen=True)
class Multiplex:
    """How an image's cameras are weighed."""

    cameras: int
    temperature: float = 0.1
    """Of the scores, which lie in [0, 1]."""
    spread_deg: float = 30.0
    """Standard deviation of the angle between the right camera and the head's."""
    min_angle_deg: float = 20.0
    """Least angle between kept cameras."""


VARIANTS = {"1 camera": Multiplex(1), "2 cameras": Multiplex(2), "4 cameras": Multiplex(4)}


class SoftLabels(pl.Callback):
    """Draw the camera of each image of a batch by its posterior, and estimate that again after every epoch."""

    def __init__(self, file: Path, images: Any, settings: Multiplex) -> None:  # noqa: ANN401 - any data set of images
        self.table = CameraTable.for_images(images, file=file)
        self.table.prune(settings.cameras, min_angle_deg=settings.min_angle_deg)
        self.settings = settings
        self.prior = torch.log_softmax(-self.table.score / settings.temperature, -1)
        self.posterior = self.prior.exp()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Label the batch."""
        rows = self.table.rows(batch["index"])
        drawn = torch.multinomial(self.posterior[rows], 1)
        camera = self.table.cameras().at((rows[:, None], drawn))
        labels = self.table.in_crop(camera, rows, batch["crop"], batch.get("flipped"))
        batch["camera"] = labels.at((slice(None), 0))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Weigh the cameras by what the head predicts for its training images."""
        views = training_views(trainer.datamodule)[:1]
        predicted = mean_rotations(self.table, [pl_module.network], views, torch.zeros_like(self.table.index))
        pl_module.train()
        angle = geodesic_distance(self.table.rotation, predicted[:, None].expand_as(self.table.rotation))
        likelihood = -(angle**2) / (2 * math.radians(self.settings.spread_deg) ** 2)
        self.posterior = torch.softmax(self.prior + likelihood, -1)

    def errors(self, images: Any) -> dict[str, float]:  # noqa: ANN401 - any data set of images
        """Compare the cameras with true ones; nothing is learned from that."""
        rows = self.table.rows(images.indices)
        truth = torch.stack([images[position]["camera"].rotation for position in range(len(images))])
        rotation, posterior = self.table.rotation[rows], self.posterior[rows]
        every = angular_error(rotation, truth[:, None].expand_as(rotation))
        likeliest = posterior.argmax(-1, keepdim=True)
        return {
            "likeliest_deg": float(every.gather(1, likeliest).mean()),
            "expected_deg": float((every * posterior).sum(-1).mean()),
            "best_of_kept_deg": float(every.amin(-1).mean()),
        }


def main(args: Sequence[str] | None = None) -> None:
    """Train all variants; write their errors."""
    given = list(sys.argv[1:] if args is None else args)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    pipeline = build_pipeline(parse_pipeline(given, prog="labels.py"))
    figures = {
        "origin": origin(["python", "examples/reproduction/labels.py", *given]),
        "variants": compare(pipeline),
    }
    write_text(pipeline.results.root / "labels.json", json.dumps(figures, indent=2) + "\n")


def compare(pipeline: Pipeline, variants: Mapping[str, Multiplex] = VARIANTS) -> dict[str, dict[str, float]]:
    """Train the head ``keypoint`` of a pipeline with each way to weigh cameras, chosen ones and re-ranked ones.

    Returns:
        By stage and variant, the variant's settings, and errors of its cameras and its head.
    """
    chosen = copy.copy(pipeline)
    chosen.rerank = chosen.shapes = None
    reranked = copy.copy(chosen)
    reranked.rerank = pipeline.rerank
    images, found = pipeline.data.dataset("train"), {}
    for stage, part in {"chosen": chosen, "re-ranked": reranked}.items():
        file = part.learn_cameras().file
        for name, settings in variants.items():
            labels = SoftLabels(file, images, settings)
            scores = train(pipeline, labels)
            found[f"{stage}: {name}"] = {**asdict(settings), **labels.errors(images), **scores}
            logger.info("%s: %s: %s", stage, name, found[f"{stage}: {name}"])
    return found


def train(pipeline: Pipeline, labels: SoftLabels) -> dict[str, float]:
    """Train a head on soft labels and score it."""
    pl.seed_everything(pipeline.seed, verbose=False)
    head = pipeline.heads["keypoint"]
    task = new_pose(pipeline.pose, pipeline.backbone, head, template=pipeline.template, cameras=Path())
    task.camera_file = None
    data = pipeline.training_data(pipeline.pose.batch_size)
    trainer = pl.Trainer(
        max_epochs=pipeline.pose.epochs,
        accelerator="cpu",
        precision=pipeline.engine.precision,
        callbacks=[labels],
        logger=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(task, data)
    (scores,) = trainer.test(task, data, verbose=False)
    return {
        name: scores[f"test/{name}"]
        for name in ("angle_deg", "angle_deg_median", "iou")
        if f"test/{name}" in scores
    }


if __name__ == "__main__":
    main()
