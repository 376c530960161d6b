"""The stages in order, each skipped when its result is there."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from kpose.backbones import Backbone
from kpose.files import write_text
from kpose.pipeline.camera_errors import camera_errors
from kpose.pipeline.configuration import build, contents
from kpose.pipeline.fitting import fit, fit_and_score
from kpose.pipeline.folder import CAMERAS, CHECKPOINT, SCORES, UNSCORED, TrainingCameras
from kpose.pipeline.parts import PipelineParts
from kpose.pipeline.report import write_report
from kpose.pipeline.reranking import predicted_rotations
from kpose.pipeline.search import PARTIAL, run_search
from kpose.reconstruction import CameraTable, average_cameras, choose_cameras, rerank_cameras, training_views

__all__ = ["Pipeline"]


class Pipeline(PipelineParts):
    """Learn poses of a category from images, masks and a mean shape.

    Stage 1 searches cameras by silhouette and may choose among them by appearance and by what heads, trained on
    other images, make of that choice; stage 2, which may be left out,
    learns shape and texture and refines the cameras; stage 3 trains pose heads on the best camera of every image;
    stage 4, which may be left out, adapts the shapes to each head's cameras.
    Each result lies in a folder of ``out`` named by a digest of the settings it depends on: a run that is repeated
    does only what is not there, and one that was killed goes on.

    Args:
        data: Configuration of the data module: ``class_path`` and ``init_args``.
        backbone: Configuration of the backbone.
        heads: Configuration of each pose head, by the name it has in the results.
        out: Folder of the results.
        template: File of the category's mean shape; the built-in bird when None.
        search: Stage 1.
        choice: The choice by appearance; None leaves it out, as the paper does.
        reconstruction: Stage 2; None leaves it out.
        rerank: The part of cross-validated heads in the choice of cameras; None leaves it out.
        pose: Stage 3.
        adaptation: Stage 4; None leaves it out.
        seed: Of everything.
        accelerator: What Lightning computes on.
    """

    def run(self) -> dict[str, Any]:
        """Do what is not done yet.

        ``out`` then holds ``metrics.json``, ``report.html``, the cameras that the heads were trained on as
        ``cameras.safetensors``, and a checkpoint of every head, ``<name>.ckpt``.

        Returns:
            The content of ``metrics.json``: scores of the heads, and errors of the training cameras where their
            truth is known: ``cameras``, those that the heads were trained on, and ``searched_cameras``, by their
            silhouettes alone.

        Raises:
            OSError: If files of the data are missing; nothing has been done then.
            ValueError: If the configuration of a part is wrong, or the data cannot be used; nothing has been done.
        """
        self.check()
        cameras = self.learn_cameras()
        metrics: dict[str, Any] = {
            "cameras": cameras.errors,
            **cameras.steps,
            "heads": {},
        }
        checkpoints = {}
        for name in self.heads:
            place = self.train_head(name, cameras)
            metrics["heads"][name] = json.loads((place / SCORES).read_text())
            checkpoints[name] = place / CHECKPOINT
            self.results.publish(checkpoints[name], f"{name}.ckpt")
        self.results.publish(cameras.file, CAMERAS)
        write_text(self.results.root / "metrics.json", json.dumps(metrics, indent=2))
        write_report(
            self.results.root,
            metrics,
            self.data_module(),
            cameras.file,
            self._template(),
            checkpoints,
            cameras.reconstruction,
        )
        return metrics

    def learn_cameras(self) -> TrainingCameras:
        """Do stages 1 and 2, as far as they are not done yet.

        Returns:
            The cameras that heads are trained on.
        """
        made: dict[str, Any] = {"seed": self.seed, "data": self.data, "template": self.template}
        made |= {"search": dataclasses.asdict(self.search), **contents(self.data_module(), self.template)}
        folder = self.results.step("cameras", made, self._search, unrelated=UNSCORED)
        steps = {"searched_cameras": camera_errors(self.data_module(), folder / CAMERAS)}
        if self.choice is not None:
            made |= {
                "backbone": self.backbone,
                "choice": dataclasses.asdict(self.choice),
                "views": self.pose.cached_views,
                **self._views(),
            }
            folder = self._choose(made, folder)
            steps["chosen_cameras"] = camera_errors(self.data_module(), folder / CAMERAS)
        if self.rerank is not None:
            made, folder = self._rerank(made, folder)
            steps["reranked_cameras"] = camera_errors(self.data_module(), folder / CAMERAS)
        checkpoint = None
        if self.reconstruction is not None:
            made |= {"backbone": self.backbone, "reconstruction": dataclasses.asdict(self.reconstruction)}
            made |= self._views()
            reconstruct = functools.partial(self._reconstruct, cameras=folder / CAMERAS)
            folder = self.results.step("reconstruction", made, reconstruct, unrelated=UNSCORED)
            checkpoint = folder / CHECKPOINT
        errors = camera_errors(self.data_module(), folder / CAMERAS)
        return TrainingCameras(folder / CAMERAS, made, errors, steps, checkpoint)

    def train_head(self, name: str, cameras: TrainingCameras, *, seed: int | None = None) -> Path:
        """Train and score a head, unless that is done.

        Args:
            name: Name of the head, as in ``heads``.
            cameras: What `learn_cameras` gave.
            seed: Of this head; the pipeline's when None.

        Returns:
            Folder with ``last.ckpt``, and its scores on the held-out images in ``scores.json``: after stage 4 with
            the overlap before it as ``iou_before_adaptation``.
        """
        head = self.heads[name]
        settings = {**cameras.made, "backbone": self.backbone, "pose": dataclasses.asdict(self.pose), "head": head}
        if seed is not None and seed != self.seed:
            settings["head_seed"] = seed
        train = functools.partial(self._train, head=head, cameras=cameras, seed=seed)
        trained = self.results.step(f"heads/{name}", settings, train)
        if self.adaptation is None:
            return trained
        settings["adaptation"] = dataclasses.asdict(self.adaptation)
        adapt = functools.partial(self._adapt, head=head, cameras=cameras, trained=trained, seed=seed)
        return self.results.step(f"adapted/{name}", settings, adapt)

    def _search(self, folder: Path) -> None:
        """Search the cameras of the training images."""
        pl.seed_everything(self.seed)
        table = run_search(
            self.data_module(), self.search, folder, template=self.template, accelerator=self.accelerator
        )
        table.save(folder / CAMERAS)
        (folder / PARTIAL).unlink(missing_ok=True)

    def _choose(self, made: Mapping[str, Any], cameras: Path) -> Path:
        """Choose among cameras by appearance."""

        def choose(folder: Path) -> None:
            pl.seed_everything(self.seed)
            data = self.feature_data()
            data.prepare_data()
            data.setup("fit")
            table = CameraTable.for_images(data.dataset("train"), file=cameras / CAMERAS)
            backbone = build(Backbone, self.backbone, "backbone").eval()
            assert self.choice is not None
            options = dataclasses.asdict(self.choice)
            choose_cameras(table, training_views(data), backbone, template=self._template(), **options)
            table.save(folder / CAMERAS)

        return self.results.step("choice", made, choose, unrelated=UNSCORED)

    def _rerank(self, made: Mapping[str, Any], chosen: Path) -> tuple[dict[str, Any], Path]:
        """Let heads that are trained on some images have a part in the choice of cameras of the others."""
        assert self.rerank is not None
        settings, folder, settled = self.rerank, chosen, {**made, "backbone": self.backbone}
        settled["pose"] = dataclasses.asdict(self.pose)
        for number in range(settings.rounds):
            labels = TrainingCameras(folder / CAMERAS, dict(settled), None, {}, None)
            folds = range(settings.folds)
            places = [
                [self._train_fold(name, labels, fold) / CHECKPOINT for fold in folds] for name in settings.heads
            ]
            settled |= {"rerank": dataclasses.asdict(settings), "round": number}
            agree = functools.partial(self._agree, cameras=chosen / CAMERAS, checkpoints=places)
            folder = self.results.step("rerank/cameras", settled, agree, unrelated=UNSCORED)
        return settled, folder

    def _train_fold(self, name: str, cameras: TrainingCameras, fold: int) -> Path:
        """Train a head on the images outside of a fold, unless that is done."""
        assert self.rerank is not None
        head, arguments = (
            self.rerank.heads[name],
            {"data": self._features(), "fold": fold, "folds": self.rerank.folds},
        )

        def train(folder: Path) -> None:
            fit(
                {
                    "model": self._pose_task(head, cameras),
                    "data": {"class_path": "kpose.data.FoldDataModule", "init_args": arguments},
                    "trainer": {"max_epochs": self.pose.epochs, "limit_val_batches": 0},
                },
                folder,
                seed=self.seed,
                accelerator=self.accelerator,
            )

        settings = {**cameras.made, "head": head, "fold": fold, "folds": self.rerank.folds}
        return self.results.step(f"rerank/{name}-fold{fold}", settings, train, unrelated=UNSCORED)

    def _agree(self, folder: Path, cameras: Path, checkpoints: Sequence[Sequence[Path]]) -> None:
        """Choose the cameras of each fold with the part of the heads that were not trained on it."""
        assert self.rerank is not None
        settings, data = self.rerank, self.feature_data()
        data.prepare_data()
        data.setup("fit")
        table = CameraTable.for_images(data.dataset("train"), file=cameras)
        predicted = predicted_rotations(data, table, checkpoints)
        average = average_cameras(table, predicted, weight=settings.weight)
        rerank_cameras(table, predicted, weight=settings.weight, silhouettes=self.choice is None)
        if settings.fit is not None:
            search = dataclasses.replace(self.search, levels=(settings.fit,))
            images, accelerator = self.data_module(), self.accelerator
            fitted = run_search(
                images, search, folder, template=self.template, start=average, accelerator=accelerator
            )
            table.add_best(fitted)
        table.save(folder / CAMERAS)
        (folder / PARTIAL).unlink(missing_ok=True)

    def _reconstruct(self, folder: Path, cameras: Path) -> None:
        """Learn shape and texture."""
        assert self.reconstruction is not None
        settings = self.reconstruction
        size = settings.render_size or self.data.get("init_args", {}).get("image_size")
        task = fit(
            {
                "model": self._reconstruction_task(cameras),
                "data": self._features(settings.batch_size, size),
                "trainer": {"max_epochs": settings.epochs},
            },
            folder,
            self._reconstruction_callbacks(folder),
            seed=self.seed,
            accelerator=self.accelerator,
        ).model
        task.table.save(folder / CAMERAS)

    def _train(self, folder: Path, head: dict[str, Any], cameras: TrainingCameras, seed: int | None) -> None:
        """Train and score a head."""
        fit_and_score(
            {
                "model": self._pose_task(head, cameras),
                "data": self._features(),
                "trainer": {"max_epochs": self.pose.epochs, "limit_val_batches": 0},
            },
            folder,
            seed=self.seed if seed is None else seed,
            accelerator=self.accelerator,
        )

    def _adapt(
        self, folder: Path, head: dict[str, Any], cameras: TrainingCameras, trained: Path, seed: int | None
    ) -> None:
        """Fit the shapes to the cameras of a trained head."""
        assert self.adaptation is not None
        size = self.adaptation.render_size or self.data.get("init_args", {}).get("image_size")
        scores = fit_and_score(
            {
                "model": self._adaptation_task(head, cameras, trained / CHECKPOINT),
                "data": self._features(self.adaptation.batch_size, size),
                "trainer": {"max_epochs": self.adaptation.epochs, "limit_val_batches": 0},
            },
            folder,
            seed=self.seed if seed is None else seed,
            accelerator=self.accelerator,
        )
        before = json.loads((trained / SCORES).read_text())
        scores |= {f"{name}_before_adaptation": before[name] for name in ("iou",) if name in before}
        write_text(folder / SCORES, json.dumps(scores, indent=2))
