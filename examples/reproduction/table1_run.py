"""Table 1: pose heads trained on the same cameras with the same budget, beside the paper's."""

import json
import logging
import statistics
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from kpose.files import write_file, write_text
from kpose.metrics import angular_error
from kpose.pipeline import Pipeline, TrainingCameras
from kpose.pipeline.fitting import trained_network
from kpose.pipeline.parts import check_seed
from kpose.reconstruction import CameraTable
from kpose.structures import Batch
from kpose.tasks import training_views
from kpose.visualization import to_pillow

from cost import step_cost
from markdown import table1_csv, table1_markdown
from origin import origin
from plot import draw_table1
from sheets import picture_sheet, score_images, some_images, worst_images

__all__ = ["Table1"]

PAPER = {  # seed paper, Table 1
    "quaternion": {"iou": 0.62, "angle_deg": 45.5},
    "gram_schmidt": {"iou": 0.55, "angle_deg": 60.4},
    "svd": {"iou": 0.58, "angle_deg": 50.8},
    "keypoint": {"iou": 0.70, "angle_deg": 40.5},
}

logger = logging.getLogger("reproduction")


class Table1:
    """Train pose heads on the same cameras with the same budget, several times each, and write the table.

    Cameras are learned once and shared; each head is trained once for every seed. What is done is not done again,
    by the rules of `Pipeline`, in whose folder everything lies.

    Args:
        pipeline: Data, cameras, heads and budget. Heads of the paper are known by their names ``quaternion``,
            ``gram_schmidt``, ``svd`` and ``keypoint``; others get a row without the paper's figures.
        seeds: Seeds of the heads, distinct.
        command: Command line that is noted with the figures.

    Raises:
        ValueError: If there is no seed, one comes twice, or one is negative or from 2³².
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        seeds: Sequence[int] = (0, 1, 2),
        command: Sequence[str] = ("python", "examples/reproduction/table1.py"),
    ) -> None:
        if not seeds or len(set(seeds)) < len(seeds):
            raise ValueError(f"Table1 needs distinct seeds; got {list(seeds)}. Give at least one, each once.")
        for seed in seeds:
            check_seed("Table1", seed)
        self.pipeline = pipeline
        self.seeds = tuple(seeds)
        self.command = tuple(command)

    def run(self) -> dict[str, Any]:
        """Do what is not done yet, and write the table.

        The folder then holds ``results.md``, ``table1.csv``, ``table1.json``, where Matplotlib is installed
        ``table1.png``, of the first seed every head's checkpoint, ``keypoint.ckpt`` and so on, and of the best
        head and the first seed the sheets ``worst.png`` and ``random.png``.

        Returns:
            The content of ``table1.json``.

        Raises:
            OSError: If files of the data are missing; nothing has been done then.
            ValueError: If the configuration of a part is wrong, or the data cannot be used; nothing has been done.
        """
        self.pipeline.check()
        logger.info("cameras of the training images")
        cameras = self.pipeline.learn_cameras()
        runs = [(seed, name) for seed in self.seeds for name in self.pipeline.heads]
        found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in self.pipeline.heads}
        for number, (seed, name) in enumerate(runs, 1):
            logger.info("%s, seed %d (%d of %d)", name, seed, number, len(runs))
            found[name][str(seed)] = self._train(name, seed, cameras)
        figures = self._figures(cameras, found)
        out = self.pipeline.results.root
        write_text(out / "table1.json", json.dumps(figures, indent=2) + "\n")
        write_text(out / "table1.csv", table1_csv(figures))
        write_text(out / "results.md", f"# Table 1\n\n{table1_markdown(figures)}")
        if find_spec("matplotlib") is None:
            logger.info("no plot without Matplotlib: install kpose[plots]")
        else:
            draw_table1(figures, out / "table1.png")
        self._picture(cameras, figures)
        return figures

    def _train(self, name: str, seed: int, cameras: TrainingCameras) -> dict[str, float]:
        place = self.pipeline.train_head(name, cameras, seed=seed)
        if seed == self.seeds[0]:
            self.pipeline.results.publish(place / "last.ckpt", f"{name}.ckpt")
        settings = {"head": f"{name}/{place.name}"}

        def compare(folder: Path) -> None:
            write_text(folder / "errors.json", json.dumps(self._training(place / "last.ckpt", cameras)))

        errors = self.pipeline.results.step("training_errors", settings, compare)
        return json.loads((place / "scores.json").read_text()) | json.loads((errors / "errors.json").read_text())

    def _picture(self, cameras: TrainingCameras, figures: Mapping[str, Any]) -> None:
        """Draw the worst and some other held-out images under the cameras of the best head."""
        means = {name: head["mean"] for name, head in figures["heads"].items()}
        name = min(means, key=lambda name: means[name].get("angle_deg", -means[name].get("iou", 0.0)))
        place = self.pipeline.train_head(name, cameras, seed=self.seeds[0])

        def draw(folder: Path) -> None:
            data = self.pipeline.feature_data()
            data.prepare_data()
            data.setup("test")
            network = trained_network(place / "last.ckpt")
            images = score_images(network, data.test_dataloader())
            for title, picked in (("worst", worst_images(images)), ("random", some_images(images))):
                sheet = to_pillow(picture_sheet(picked))
                write_file(folder / f"{title}.png", partial(sheet.save, format="PNG"))

        logger.info("held-out images of %s, seed %d", name, self.seeds[0])
        folder = self.pipeline.results.step("sheets", {"head": f"{name}/{place.name}"}, draw)
        for title in ("worst", "random"):
            self.pipeline.results.publish(folder / f"{title}.png", f"{title}.png")

    def _training(self, checkpoint: Path, cameras: TrainingCameras) -> dict[str, float]:
        """Compare a head's cameras of its training images with labels and true ones; measure a training step."""
        network = trained_network(checkpoint)
        data = self.pipeline.feature_data()
        data.prepare_data()
        data.setup("fit")
        table = CameraTable.for_images(data.dataset("train"), file=cameras.file)
        to_label, to_truth = [], []
        for batch in training_views(data)[0]:
            with torch.no_grad():
                rotation = network.pose(network.backbone.features_of(batch)).camera.rotation
            to_label.append(angular_error(rotation, table.labels(batch).rotation))
            if "camera" in batch:
                to_truth.append(angular_error(rotation, batch["camera"].rotation))
        named = {"train_label_deg": to_label, "train_angle_deg": to_truth}
        found = {key: float(torch.cat(errors).mean()) for key, errors in named.items() if errors}
        batch = next(iter(training_views(data)[0]))
        return found | step_cost(network, Batch(**{**batch, "camera": table.labels(batch)}))

    def _figures(self, cameras: TrainingCameras, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        heads = {}
        for name, seeds in found.items():
            values = {key: [scores[key] for scores in seeds.values()] for key in _shared(list(seeds.values()))}
            heads[name] = {
                "class": self.pipeline.heads[name]["class_path"],
                "paper": PAPER.get(name),
                "mean": {key: statistics.fmean(v) for key, v in values.items()},
                "spread": {key: statistics.stdev(v) for key, v in values.items()} if len(seeds) > 1 else None,
                "seeds": seeds,
            }
        return {
            "table": "table1",
            "origin": origin(self.command),
            "data": self._data(),
            "settings": self.pipeline.settings(),
            **cameras.steps,
            "cameras": cameras.errors,
            "heads": heads,
        }

    def _data(self) -> dict[str, Any]:
        data: Any = self.pipeline.data_module()
        return {
            "module": type(data).__name__,
            "train_images": len(data.dataset("train")),
            "test_images": len(data.dataset(data.test_split)),
            "test_split": data.test_split,
            "image_size": getattr(data, "image_size", None),
        }


def _shared(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    return [key for key in scores[0] if all(key in other for other in scores)]
