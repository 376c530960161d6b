"""The stages in order, each skipped when its result is there."""

import copy
import json
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch

from kpose._distributed import barrier, rank
from kpose._files import write_text
from kpose.backbones import Backbone
from kpose.data import CachedFeaturesDataModule
from kpose.data._digests import describe_data, digest_tensors
from kpose.network import HeadFactory, PoseNetwork
from kpose.pipeline.camera_errors import camera_errors
from kpose.pipeline.choice import choose
from kpose.pipeline.data import check_data, without_fold
from kpose.pipeline.engine import Engine
from kpose.pipeline.folder import CAMERAS, CHECKPOINT, SCORES, ResultFolder, TrainedHead, TrainingCameras
from kpose.pipeline.pose import new_adaptation, new_pose
from kpose.pipeline.report import write_report
from kpose.pipeline.reranking import rerank
from kpose.pipeline.search import search
from kpose.pipeline.settings import (
    AdaptationSettings,
    ChoiceSettings,
    PoseSettings,
    RerankSettings,
    SearchSettings,
    ShapeSettings,
    TrainerSettings,
    check_stages,
)
from kpose.pipeline.shapes import load_shapes, new_shapes, train_shapes
from kpose.pipeline.training import fit, score, trained_weights
from kpose.recipe import encode, encode_factory
from kpose.reconstruction import CameraTable
from kpose.structures import Template
from kpose.tasks import PoseEstimator, ShapeTraining
from kpose.templates import bird, load_template

__all__ = ["Pipeline"]


class Pipeline:
    """Learn poses of a category from images, masks and a mean shape.

    Stage 1 searches cameras by silhouette, and may choose among them by appearance and re-rank them by heads that
    were trained on other images. Stage 2 (optional) learns shape and texture and refines the cameras. Stage 3
    trains pose heads on the best camera of every image. Stage 4 (optional) adapts the shapes to each head's
    cameras. Each result is in a folder of ``out`` named by a digest of what it was made from, the code of classes
    left out: a repeated run does only what is missing, and one that was killed continues.

    Args:
        data: Data module with a method ``dataset`` (see `kpose.data.AugmentedDataModule`). Each stage sets its
            attribute ``batch_size``.
        backbone: Where features come from. Every training starts from a copy of it: build one with random weights
            after ``torch.manual_seed``, so that a repeated run knows it again.
        heads: Builds each pose head from `FeatureSpec` and template (a class, a `functools.partial`), by its name.
        out: Folder of the results.
        template: The category's mean shape, or its file; the built-in bird when None.
        views: Augmented views of each training image whose features are cached, for a frozen backbone, or 0.
        search: Stage 1.
        choice: The choice by appearance; None leaves it out, as the paper does.
        rerank: Re-ranking by cross-validated heads; None leaves it out.
        shapes: Stage 2; None leaves it out.
        pose: Stage 3.
        adaptation: Stage 4; None leaves it out.
        seed: Of everything.
        trainer: Devices, precision and time limit of all stages.
        only: Part of the run, with what it needs: ``cameras``, ``heads/<name>``, or ``rerank/<name>-fold<k>``, one
            head of the first round. Jobs can do parts side by side; a run without it then combines them.

    Raises:
        OSError: If the file of the template cannot be read.

    Example:
        ``Pipeline(data, TinyBackbone(), {"keypoint": KeypointHead}, out=Path("birds")).run()["heads"]``
    """

    check_data = staticmethod(check_data)

    def __init__(
        self,
        data: pl.LightningDataModule,
        backbone: Backbone,
        heads: Mapping[str, HeadFactory],
        *,
        out: Path,
        template: Template | Path | None = None,
        views: int = 0,
        search: SearchSettings | None = None,
        choice: ChoiceSettings | None = None,
        rerank: RerankSettings | None = None,
        shapes: ShapeSettings | None = None,
        pose: PoseSettings | None = None,
        adaptation: AdaptationSettings | None = None,
        seed: int = 0,
        trainer: TrainerSettings | None = None,
        only: str | None = None,
    ) -> None:
        self.data: Any = data
        self.backbone = backbone
        self.heads = heads
        self.results = ResultFolder(out)
        shape = bird() if template is None else template
        self.template = shape if isinstance(shape, Template) else load_template(shape)
        self.views = views
        self.search = SearchSettings() if search is None else search
        self.choice = choice
        self.rerank = rerank
        self._ranked = choice is not None or rerank is not None
        self.shapes = shapes
        self.pose = PoseSettings() if pose is None else pose
        self.adaptation = adaptation
        self.seed = seed
        self.engine = Engine(TrainerSettings() if trainer is None else trainer)
        self.only = only

    def run(self) -> dict[str, Any]:
        """Do what is not done yet.

        ``out`` then holds ``metrics.json``, ``report.html``, the cameras that the heads were trained on as
        ``cameras.safetensors``, and a checkpoint of every head, ``<name>.ckpt``; a part of a run leaves its results
        for the others.

        Returns:
            The content of ``metrics.json``: scores of the heads, and errors of the training cameras where their
            truth is known: ``cameras``, those that the heads were trained on, and ``searched_cameras``, by their
            silhouettes alone. A part of a run returns what it has.

        Raises:
            OSError: If files of the data are missing; nothing has been done then.
            ValueError: If the stages do not fit each other, or the data cannot be used; nothing has been done.
            SystemExit: At a signal (SIGTERM, SIGUSR1), or when time is up: what was reached is saved, and a run
                that is repeated goes on from there.
        """
        with self.engine.interruption.answered():
            self.check()
            self.engine.launch()
            return self._run()

    def _run(self) -> dict[str, Any]:
        part, _, name = (self.only or "").partition("/")
        if part == "rerank":
            name, _, fold = name.rpartition("-fold")
            self._train_fold(name, cast("RerankSettings", self.rerank), self._searched()[0], int(fold))
            return {}
        cameras = self.learn_cameras()
        metrics: dict[str, Any] = {"cameras": cameras.errors, **cameras.steps}
        if part == "cameras":
            return metrics
        heads = {head: self.train_head(head, cameras) for head in ([name] if name else self.heads)}
        for head, trained in heads.items():
            self.results.publish(trained.checkpoint, f"{head}.ckpt")
        metrics["heads"] = {head: trained.scores for head, trained in heads.items()}
        if self.only is None:
            self.results.publish(cameras.file, CAMERAS)
            if rank() == 0:
                write_text(self.results.root / "metrics.json", json.dumps(metrics, indent=2))
                networks = {head: trained.network for head, trained in heads.items()}
                write_report(self.results.root, metrics, self.data, cameras, self.template, networks)
            barrier()
        return metrics

    def check(self) -> None:
        """Build what would otherwise fail only after hours.

        Raises:
            OSError: If files of the data are missing.
            ValueError: If the stages do not fit each other, or the data cannot be used.
            TypeError: If the data module has no method ``dataset``, or a part cannot be described.
        """
        if not 0 <= self.seed < 2**32:  # NumPy refuses others
            raise ValueError(f"Pipeline needs seeds from 0 to {2**32 - 1}; got {self.seed}. Give another.")
        check_stages(self.heads, self.rerank, self.shapes, self.adaptation, self.only)
        check_data(self.data)
        for stage in (self.pose, self.shapes, self.adaptation):
            self.engine.share(0 if stage is None else stage.batch_size)
        _ = self._seen, self._features
        asked = {} if self.rerank is None else self.rerank.heads
        for name, head in (*self.heads.items(), *asked.items()):
            if Path(name).name != name:
                raise ValueError(f"Pipeline needs names of heads that can be folders; got {name!r}. Rename it.")
            self._recipe(head)
        if self.shapes is not None:
            shapes = self._new_shapes(CameraTable(torch.arange(1)))
            encode(self.shapes)
            for head in self.heads.values() if self.adaptation is not None else ():
                self._new_adaptation(head, shapes, Path())
                encode(self.adaptation)

    def training_data(self, batch_size: int, picture_size: int | None = None) -> Any:  # noqa: ANN401
        """Return the data that a stage trains on.

        Args:
            batch_size: Images of a batch of all processes together.
            picture_size: Side of the pictures that are served beside features which are kept.

        Returns:
            Copy of the data module, or a module of the features that are kept.
        """
        data: Any = copy.copy(self._features or self.data)
        data.batch_size = self.engine.share(batch_size)
        if self._features is not None:
            data.picture_size = picture_size
        return data

    def learn_cameras(self) -> TrainingCameras:
        """Do stages 1 and 2, as far as they are not done yet.

        Returns:
            The cameras that heads are trained on.
        """
        folder, steps = self._searched()
        step = self.results.step
        if self.rerank is not None:
            folder = self._rerank(self.rerank, folder)
            steps["reranked_cameras"] = camera_errors(self.data, folder / CAMERAS)
        shapes = None
        if self.shapes is not None:
            start = CameraTable.for_images(self.data.dataset("train"), file=folder / CAMERAS)
            settings = {**self._seen, "shapes": encode(self.shapes), "ranked": self._ranked}
            folder = step("shapes", settings, partial(self._train_shapes, copy.deepcopy(start)), after=[folder])
            shapes = load_shapes(self._new_shapes(start), folder)
        return TrainingCameras(folder / CAMERAS, camera_errors(self.data, folder / CAMERAS), steps, shapes)

    def _searched(self) -> tuple[Path, dict[str, dict[str, float] | None]]:
        """Search the cameras and choose among them by appearance; return the folder of the last step."""
        self.engine.launch()
        step = self.results.step
        template = {name: part for name, part in self.template._asdict().items() if torch.is_tensor(part)}
        settings = {"seed": self.seed, "data": describe_data(self.data), "template": digest_tensors(template)}
        folder = step("cameras", {**settings, "search": encode(self.search)}, self._search)
        steps = {"searched_cameras": camera_errors(self.data, folder / CAMERAS)}
        if self.choice is not None:
            settings = {**self._seen, "choice": encode(self.choice)}
            folder = step("choice", settings, partial(self._choose, folder / CAMERAS), after=[folder])
            steps["chosen_cameras"] = camera_errors(self.data, folder / CAMERAS)
        return folder, steps

    def train_head(self, name: str, cameras: TrainingCameras, *, seed: int | None = None) -> TrainedHead:
        """Train and score a head, unless that is done.

        Args:
            name: Name of the head, as in ``heads``.
            cameras: What `learn_cameras` returned.
            seed: Of this head; the pipeline's when None.

        Returns:
            The trained head.
        """
        head, seed = self.heads[name], self.seed if seed is None else seed
        step, batch_size = self.results.step, self.pose.batch_size
        made = {**self._seen, "seed": seed, "pose": encode(self.pose), "head": self._recipe(head)}
        new = partial(self._new_pose, head, cameras.file, cameras.shapes)
        train = partial(self._train, new, seed, self.pose.epochs, lambda task: self.training_data(batch_size))
        trained = step(f"heads/{name}", made, train, after=[cameras.file.parent])
        task, scores = self._score(name, new(), trained)
        if self.adaptation is None or cameras.shapes is None:
            return TrainedHead(trained / CHECKPOINT, scores, task.network)
        new = partial(self._new_adaptation, head, cameras.shapes, trained)
        last = self.adaptation
        adapt = partial(
            self._train, new, seed, last.epochs, lambda task: self._pictures(task.render_size, last.batch_size)
        )
        adapted = step(f"adapted/{name}", {"seed": seed, "adaptation": encode(last)}, adapt, after=[trained])
        task, after = self._score(name, new(), adapted)
        before = {f"{key}_before_adaptation": scores[key] for key in ("iou",) if key in scores}
        return TrainedHead(adapted / CHECKPOINT, after | before, task.network)

    @cached_property
    def _features(self) -> CachedFeaturesDataModule | None:
        if not self.views:
            return None
        backbone, folder = copy.deepcopy(self.backbone).to(self.engine.device), self.results.root / "features"
        precision = self.engine.precision
        return CachedFeaturesDataModule(
            self.data, backbone, folder=folder, views=self.views, seed=self.seed, precision=precision
        )

    @cached_property
    def _seen(self) -> dict[str, Any]:
        """What decides the features that networks see."""
        weights = digest_tensors(self.backbone.state_dict())
        seen = {"backbone": encode(self.backbone), "weights": weights, "views": self.views}
        return {"seed": self.seed, "precision": self.engine.precision, **seen}

    def _recipe(self, head: HeadFactory) -> dict[str, Any]:
        return encode_factory(PoseNetwork(self.backbone, head, template=self.template).head)

    def _search(self, folder: Path) -> None:
        pl.seed_everything(self.seed, verbose=False)
        search(self.data, self.search, folder, template=self.template, engine=self.engine)

    def _choose(self, cameras: Path, folder: Path) -> None:
        assert self.choice is not None
        pl.seed_everything(self.seed, verbose=False)
        data = self.training_data(self.pose.batch_size)
        backbone = copy.deepcopy(self.backbone)
        choose(data, backbone, cameras, self.choice, folder, template=self.template, device=self.engine.device)

    def _rerank(self, settings: RerankSettings, chosen: Path) -> Path:
        """Let heads that are trained on some images have a part in the choice of cameras of the others."""
        folder = chosen
        for _ in range(settings.rounds):
            folds = {
                name: [self._train_fold(name, settings, folder, fold) for fold in range(settings.folds)]
                for name in settings.heads
            }
            # The folds of one head at a time.
            networks = (
                (self._loaded(self._new_pose(settings.heads[name], fold), fold).network for fold in each)
                for name, each in folds.items()
            )
            work = partial(
                rerank,
                self.training_data(self.pose.batch_size),
                chosen / CAMERAS,
                networks,
                settings,
                silhouettes=self.choice is None,
                search_settings=self.search,
                template=self.template,
                engine=self.engine,
            )
            made = {name: encode(getattr(settings, name)) for name in ("rounds", "folds", "weight", "fit")}
            made["search"] = encode(self.search)
            after = [chosen, *(fold for each in folds.values() for fold in each)]
            folder = self.results.step("rerank/cameras", made, work, after=after)
        return folder

    def _train_fold(self, name: str, settings: RerankSettings, cameras: Path, fold: int) -> Path:
        """Train a head on the images outside of a fold, unless that is done."""
        head, part = settings.heads[name], {"fold": fold, "folds": settings.folds}
        made = {**self._seen, **part, "pose": encode(self.pose), "head": self._recipe(head)}
        train = partial(
            self._train,
            partial(self._new_pose, head, cameras / CAMERAS),
            self.seed,
            self.pose.epochs,
            lambda task: without_fold(self.training_data(self.pose.batch_size), **part),
        )
        return self.results.step(f"rerank/{name}-fold{fold}", made, train, after=[cameras])

    def _train_shapes(self, cameras: CameraTable, folder: Path) -> None:
        assert self.shapes is not None
        pl.seed_everything(self.seed, verbose=False)
        task = self._new_shapes(cameras)
        data = self._pictures(task.render_size, self.shapes.batch_size)
        train_shapes(task, data, self.shapes, folder, self.engine)

    def _train(
        self,
        new: Callable[[], PoseEstimator],
        seed: int,
        epochs: int,
        data: Callable[[Any], pl.LightningDataModule],
        folder: Path,
    ) -> None:
        pl.seed_everything(seed, verbose=False)
        task = new()
        fit(task, data(task), folder, epochs=epochs, engine=self.engine, precision=self.engine.precision)

    def _score(self, name: str, task: PoseEstimator, trained: Path) -> tuple[PoseEstimator, dict[str, float]]:
        """Score a trained task, unless that is done."""
        self._loaded(task, trained)

        def work(folder: Path) -> None:
            scores = score(task, self.training_data(self.pose.batch_size), trained, folder, self.engine)
            if rank() == 0:
                write_text(folder / SCORES, json.dumps(scores, indent=2))

        settings = {"test_split": getattr(self.data, "test_split", "test")}
        folder = self.results.step(f"scores/{name}", settings, work, after=[trained])
        return task, json.loads((folder / SCORES).read_text())

    def _loaded(self, task: PoseEstimator, folder: Path) -> PoseEstimator:
        task.load_state_dict(trained_weights(folder))
        task.network.image_size = getattr(self.data, "image_size", None)
        return task.eval()

    def _pictures(self, size: int | None, batch_size: int) -> Any:  # noqa: ANN401
        """Return the data of a stage that compares pictures with renderings; as large as the images when None."""
        return self.training_data(batch_size, size or self.data.dataset("train")[0]["image"].shape[-1])

    def _new_pose(self, head: HeadFactory, cameras: Path, shapes: ShapeTraining | None = None) -> PoseEstimator:
        return new_pose(self.pose, self.backbone, head, template=self.template, cameras=cameras, shapes=shapes)

    def _new_shapes(self, cameras: CameraTable) -> ShapeTraining:
        assert self.shapes is not None
        return new_shapes(self.shapes, self.backbone, cameras, self.template, ranked=self._ranked)

    def _new_adaptation(self, head: HeadFactory, shapes: ShapeTraining, trained: Path) -> Any:  # noqa: ANN401
        assert self.adaptation is not None
        return new_adaptation(self.adaptation, head, template=self.template, shapes=shapes, trained=trained)
