"""The stages in order, each skipped when its result is there."""

import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import LightningDataModule

from kpose.backbones import Backbone
from kpose.files import write_text
from kpose.heads import PoseHead
from kpose.network import PoseNetwork
from kpose.pipeline.configuration import build, contents
from kpose.pipeline.fitting import fit
from kpose.pipeline.folder import CAMERAS, CHECKPOINT, COST, SCORES, ResultFolder, TrainingCameras
from kpose.pipeline.report import write_report
from kpose.pipeline.reranking import count_votes
from kpose.pipeline.search import PARTIAL, run_search
from kpose.pipeline.settings import (
    ChoiceSettings,
    PoseSettings,
    ReconstructionSettings,
    RerankSettings,
    SearchSettings,
)
from kpose.reconstruction import CameraMultiplex
from kpose.structures import FeatureSpec
from kpose.tasks import choose_cameras, training_views
from kpose.tasks.training_cameras import camera_errors, multiplex_of
from kpose.templates import bird, load_template

__all__ = ["Pipeline"]

RECONSTRUCTOR = {"class_path": "kpose.reconstruction.MeshReconstructor"}


class Pipeline:
    """Learn poses of a category from images, masks and a mean shape.

    Stage 1 searches cameras by silhouette and may choose among them by appearance; stage 2, which may be left out,
    learns shape and texture and refines the cameras; stage 3 trains pose heads on the best camera of every image.
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
        rerank: The vote of a head among the cameras that it will be trained on; None leaves it out.
        pose: Stage 3.
        seed: Of everything.
        accelerator: What Lightning computes on.
    """

    def __init__(
        self,
        data: dict[str, Any],
        backbone: dict[str, Any],
        heads: dict[str, dict],  # type: ignore[type-arg]  # a bare one is taken as it is
        *,
        out: Path,
        template: Path | None = None,
        search: SearchSettings | None = None,
        choice: ChoiceSettings | None = None,
        reconstruction: ReconstructionSettings | None = None,
        rerank: RerankSettings | None = None,
        pose: PoseSettings | None = None,
        seed: int = 0,
        accelerator: str = "auto",
    ) -> None:
        self.data = data
        self.backbone = backbone
        self.heads = heads
        self.results = ResultFolder(out)
        self.template = template
        self.search = SearchSettings() if search is None else search
        self.choice = choice
        self.reconstruction = reconstruction
        self.rerank = rerank
        self.pose = PoseSettings() if pose is None else pose
        self.seed = seed
        self.accelerator = accelerator

    def run(self) -> dict[str, Any]:
        """Do what is not done yet.

        ``out`` then holds ``metrics.json``, ``report.html``, the cameras that the heads were trained on as
        ``cameras.safetensors``, and a checkpoint of every head, ``<name>.ckpt``.

        Returns:
            The content of ``metrics.json``: scores of the heads, and errors of the training cameras where their
            truth is known: ``cameras``, those that the heads were trained on, and ``searched_cameras``, by their
            silhouettes alone.

        Raises:
            ValueError: If the configuration of a part is wrong; nothing has been done then.
        """
        self.check()
        cameras = self.learn_cameras()
        metrics: dict[str, Any] = {
            "cameras": cameras.errors,
            "searched_cameras": cameras.searched_errors,
            "heads": {},
        }
        if self.rerank is not None:
            metrics["chosen_cameras"] = cameras.chosen_errors
        checkpoints = {}
        for name in self.heads:
            place = self.train_head(name, cameras)
            metrics["heads"][name] = json.loads((place / SCORES).read_text())
            checkpoints[name] = place / CHECKPOINT
            self.results.publish(checkpoints[name], f"{name}.ckpt")
        self.results.publish(cameras.file, CAMERAS)
        write_text(self.results.root / "metrics.json", json.dumps(metrics, indent=2))
        write_report(self.results.root, metrics, self.data_module(), cameras.file, self._template(), checkpoints)
        return metrics

    def learn_cameras(self) -> TrainingCameras:
        """Do stages 1 and 2, as far as they are not done yet.

        Returns:
            The cameras that heads are trained on.
        """
        made: dict[str, Any] = {"seed": self.seed, "data": self.data, "template": self.template}
        made |= {"search": dataclasses.asdict(self.search), **contents(self.data_module(), self.template)}
        folder = self.results.step("cameras", made, self._search)
        searched, checkpoint = camera_errors(self.data_module(), folder / CAMERAS), None
        if self.choice is not None:
            made |= {
                "backbone": self.backbone,
                "choice": dataclasses.asdict(self.choice),
                "views": self.pose.cached_views,
            }
            folder = self._choose(made, folder)
        if self.reconstruction is not None:
            made |= {"backbone": self.backbone, "reconstruction": dataclasses.asdict(self.reconstruction)}
            reconstruct = functools.partial(self._reconstruct, cameras=folder / CAMERAS)
            folder = self.results.step("reconstruction", made, reconstruct)
            checkpoint = folder / CHECKPOINT
        errors = camera_errors(self.data_module(), folder / CAMERAS)
        cameras = TrainingCameras(folder / CAMERAS, made, errors, searched, checkpoint)
        return cameras if self.rerank is None else self._rerank(cameras)

    def train_head(self, name: str, cameras: TrainingCameras, *, seed: int | None = None) -> Path:
        """Train and score a head, unless that is done.

        Args:
            name: Name of the head, as in ``heads``.
            cameras: What `learn_cameras` gave.
            seed: Of this head; the pipeline's when None.

        Returns:
            Folder with ``last.ckpt``, its scores on the held-out images in ``scores.json``, and what a step of its
            training cost in ``cost.json`` (see `kpose.callbacks.MeasureTraining`).
        """
        head = self.heads[name]
        settings = {**cameras.made, "backbone": self.backbone, "pose": dataclasses.asdict(self.pose), "head": head}
        if seed is not None and seed != self.seed:
            settings["head_seed"] = seed
        train = functools.partial(self._train, head=head, cameras=cameras, seed=seed)
        return self.results.step(f"heads/{name}", settings, train)

    def check(self) -> None:
        """Build what would otherwise fail only after hours.

        Raises:
            ValueError: If the configuration of a part is wrong.
        """
        if not self.heads:
            raise ValueError("Pipeline needs a pose head; got none. Name one under `heads`.")
        if self.rerank is not None and self.rerank.head not in self.heads:
            raise ValueError(
                f"Pipeline needs the head that reranks cameras among its heads {list(self.heads)}; got "
                f"{self.rerank.head!r}. Name one of them."
            )
        self._template()
        backbone = build(Backbone, self.backbone, "backbone")
        for name, head in self.heads.items():
            if Path(name).name != name:
                raise ValueError(f"Pipeline needs names of heads that can be folders; got {name!r}. Rename it.")
            PoseNetwork(
                backbone, build(Callable[[FeatureSpec], PoseHead], head, f"heads.{name}"), template=self.template
            )

    @property
    def _template_file(self) -> str | None:
        return None if self.template is None else str(Path(self.template).resolve())

    def _template(self) -> Any:  # noqa: ANN401
        return bird() if self.template is None else load_template(self.template)

    def data_module(self, **changes: Any) -> Any:  # noqa: ANN401
        """Build the data module.

        Args:
            changes: Arguments that differ.

        Returns:
            The data module, which has a method `dataset`.

        Raises:
            TypeError: If it has none.
        """
        arguments = {**self.data.get("init_args", {}), **changes}
        data = build(LightningDataModule, {**self.data, "init_args": arguments}, "data")
        if not hasattr(data, "dataset"):
            raise TypeError(
                f"Pipeline needs a data module with a method `dataset`; got {type(data).__name__}. Take one of "
                "kpose.data, or add the method."
            )
        return data

    def feature_data(self) -> Any:  # noqa: ANN401
        """Build the data module that heads are trained on, features cached if asked for.

        Returns:
            The data module; it is not set up.
        """
        return build(LightningDataModule, self._features(), "data")

    def settings(self) -> dict[str, Any]:
        """Give what the stages were told, in plain values.

        Returns:
            Settings of the stages by their names; None for those that are left out.
        """
        stages = ("search", "choice", "reconstruction", "rerank", "pose")
        told = {name: getattr(self, name) for name in stages}
        plain: dict[str, Any] = json.loads(
            json.dumps({k: None if v is None else dataclasses.asdict(v) for k, v in told.items()})
        )
        return {"seed": self.seed, **plain}

    def _features(self, batch_size: int | None = None, picture_size: int | None = None) -> dict[str, Any]:
        """Give the configuration of the data that networks are trained on, features cached if asked for."""
        batch = {"batch_size": self.pose.batch_size if batch_size is None else batch_size}
        if not self.pose.cached_views:
            return {**self.data, "init_args": {**self.data.get("init_args", {}), **batch}}
        # Batches of one size for all stages: what a view is depends on who shared its batch when it was augmented.
        plain = {**self.data, "init_args": {**self.data.get("init_args", {}), "batch_size": self.pose.batch_size}}
        arguments = {
            "data": plain,
            "backbone": self.backbone,
            "folder": str(self.results.root / "features"),
            "views": self.pose.cached_views,
            "seed": self.seed,
            "picture_size": picture_size,
            **batch,
        }
        return {"class_path": "kpose.data.CachedFeaturesDataModule", "init_args": arguments}

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
            table = multiplex_of(data, file=cameras / CAMERAS)
            backbone = build(Backbone, self.backbone, "backbone").eval()
            assert self.choice is not None
            options = dataclasses.asdict(self.choice)
            choose_cameras(table, training_views(data), backbone, template=self._template(), **options)
            table.save(folder / CAMERAS)

        return self.results.step("choice", made, choose)

    def _rerank(self, chosen: TrainingCameras) -> TrainingCameras:
        """Let a head vote among the cameras of images that it was not trained on, and train it on the outcome."""
        assert self.rerank is not None
        settings, cameras = self.rerank, chosen
        head = self.heads[settings.head]
        for number in range(settings.rounds):
            told = {"rerank": dataclasses.asdict(settings), "round": number, "head": head}
            made = {**chosen.made, **told, "backbone": self.backbone, "pose": dataclasses.asdict(self.pose)}
            places = []
            for fold in range(settings.folds):
                train = functools.partial(self._train_fold, head=head, cameras=cameras, fold=fold)
                places.append(self.results.step(f"rerank/fold{fold}", {**made, "fold": fold}, train))
            vote = functools.partial(self._vote, cameras=chosen.file, checkpoints=[p / CHECKPOINT for p in places])
            folder = self.results.step("rerank/cameras", made, vote)
            errors = camera_errors(self.data_module(), folder / CAMERAS)
            cameras = TrainingCameras(
                folder / CAMERAS, made, errors, chosen.searched_errors, chosen.reconstruction, chosen.errors
            )
        return cameras

    def _train_fold(self, folder: Path, head: dict[str, Any], cameras: TrainingCameras, fold: int) -> None:
        """Train a head on the images outside of a fold."""
        assert self.rerank is not None
        arguments = {"data": self._features(), "fold": fold, "folds": self.rerank.folds}
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

    def _vote(self, folder: Path, cameras: Path, checkpoints: Sequence[Path]) -> None:
        """Let the head of every fold vote among the cameras of the fold's images."""
        assert self.rerank is not None
        table = count_votes(
            self.feature_data(), cameras, checkpoints, weight=self.rerank.weight, silhouettes=self.choice is None
        )
        table.save(folder / CAMERAS)

    def _reconstruct(self, folder: Path, cameras: Path) -> None:
        """Learn shape and texture."""
        assert self.reconstruction is not None
        settings = self.reconstruction
        prune = {"epoch": settings.prune_epoch, "keep": settings.keep, "min_angle_deg": settings.min_angle_deg}
        model = {
            "backbone": self.backbone,
            "cameras": str(cameras),
            "template": self._template_file,
            "render_size": settings.render_size,
            "rescore": self.choice is None,  # a choice knows more than how well an image is explained
            **settings.model,
        }
        size = settings.render_size or self.data.get("init_args", {}).get("image_size")
        task = fit(
            {
                "model": {"class_path": "kpose.tasks.Reconstructor", "init_args": model},
                "data": self._features(settings.batch_size, size),
                "trainer": {"max_epochs": settings.epochs},
            },
            folder,
            [{"class_path": "kpose.callbacks.PruneCameras", "init_args": prune}],
            seed=self.seed,
            accelerator=self.accelerator,
        ).model
        table: CameraMultiplex = task.table
        table.settle(task.camera_gain)
        table.cpu().save(folder / CAMERAS)

    def _train(self, folder: Path, head: dict[str, Any], cameras: TrainingCameras, seed: int | None) -> None:
        """Train and score a head."""
        measure = {"class_path": "kpose.callbacks.MeasureTraining", "init_args": {"path": str(folder / COST)}}
        cli = fit(
            {
                "model": self._pose_task(head, cameras),
                "data": self._features(),
                "trainer": {"max_epochs": self.pose.epochs, "limit_val_batches": 0},
            },
            folder,
            [measure],
            seed=self.seed if seed is None else seed,
            accelerator=self.accelerator,
        )
        (scores,) = cli.trainer.test(cli.model, cli.datamodule, verbose=False)
        own = {name.removeprefix("test/"): value for name, value in scores.items()}
        write_text(folder / SCORES, json.dumps(own, indent=2))

    def _pose_task(self, head: dict[str, Any], cameras: TrainingCameras) -> dict[str, Any]:
        """Give the configuration of a head's training."""
        settings = self.pose
        optimizer = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        model = {
            "backbone": self.backbone,
            "head": head,
            "cameras": str(cameras.file),
            "template": self._template_file,
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": optimizer},
            "feature_dropout": settings.feature_dropout,
        }
        if cameras.reconstruction is not None:
            assert self.reconstruction is not None
            model["reconstructor"] = self.reconstruction.model.get("reconstructor", RECONSTRUCTOR)
            model["reconstruction"] = str(cameras.reconstruction)
        return {"class_path": "kpose.tasks.PoseEstimator", "init_args": model}
