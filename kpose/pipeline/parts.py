"""What a pipeline is told, and the parts that are built from it."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningDataModule

from kpose.backbones import Backbone
from kpose.heads import PoseHead
from kpose.network import PoseNetwork
from kpose.pipeline.configuration import build
from kpose.pipeline.folder import ResultFolder, TrainingCameras
from kpose.pipeline.settings import (
    AdaptationSettings,
    ChoiceSettings,
    PoseSettings,
    ReconstructionSettings,
    RerankSettings,
    SearchSettings,
)
from kpose.structures import FeatureSpec, Template
from kpose.tasks import Task
from kpose.templates import bird, load_template

__all__ = ["PipelineParts", "check_seed"]

SHEETS = 5  # of what stage 2 learns, about
RECONSTRUCTOR = {"class_path": "kpose.reconstruction.MeshReconstructor"}


def check_seed(who: str, seed: int) -> None:
    """Refuse a seed that NumPy would refuse when a head is trained.

    Args:
        who: What is told the seed.
        seed: Of everything.

    Raises:
        ValueError: If it is negative or too large.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"{who} needs seeds from 0 to {2**32 - 1}; got {seed}. Give another.")


class PipelineParts:
    """Settings of a pipeline, and what is built from them; arguments are those of `Pipeline`."""

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
        adaptation: AdaptationSettings | None = None,
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
        self.adaptation = adaptation
        self.seed = seed
        self.accelerator = accelerator

    def check(self) -> None:
        """Build what would otherwise fail only after hours; the data first, before a backbone is downloaded.

        Raises:
            OSError: If files of the data are missing.
            ValueError: If the configuration of a part is wrong, or the data cannot be used.
        """
        if not self.heads:
            raise ValueError("Pipeline needs a pose head; got none. Name one under `heads`.")
        if self.adaptation is not None and self.reconstruction is None:
            raise ValueError(
                "Pipeline needs the shapes of stage 2 to adapt them to heads; got no `reconstruction`. Give it, "
                "or leave `adaptation` out."
            )
        check_seed("Pipeline", self.seed)
        self._template()
        data = self.data_module()
        for split in ("train", getattr(data, "test_split", "train")):
            data.dataset(split)
        backbone = build(Backbone, self.backbone, "backbone")
        self._check_heads(backbone, self.heads, "heads")
        if self.rerank is not None:
            self._check_heads(backbone, self.rerank.heads, "rerank.heads")
        self._check_stages()

    def _check_heads(self, backbone: Backbone, heads: dict[str, dict[str, Any]], where: str) -> None:
        for name, head in heads.items():
            if Path(name).name != name:
                raise ValueError(
                    f"Pipeline needs names of heads that can be folders; got {name!r} under `{where}`. Rename it."
                )
            made = build(Callable[[FeatureSpec, Template], PoseHead], head, f"{where}.{name}")
            PoseNetwork(backbone, made, template=self._template())

    def _check_stages(self) -> None:
        """Build what the stages after the search train and train on; their files are read when they are set up."""
        self.feature_data()
        nowhere = Path("nowhere")
        if self.reconstruction is not None:
            build(Task, self._reconstruction_task(nowhere), "reconstruction.model")
            for callback in self._reconstruction_callbacks(nowhere):
                build(Callback, callback, "reconstruction")
        if self.adaptation is not None:
            cameras = TrainingCameras(nowhere, {}, None, {}, nowhere)
            for name, head in self.heads.items():
                build(Task, self._adaptation_task(head, cameras, nowhere), f"adaptation.model.{name}")

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
        stages = ("search", "choice", "rerank", "reconstruction", "pose", "adaptation")
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

    def _views(self) -> dict[str, int]:
        """Say what the views of the training images depend on that stages 1 and 2 see; nothing without a cache."""
        if not self.pose.cached_views:
            return {}
        return {"views": self.pose.cached_views, "view_batch": self.pose.batch_size}

    def _reconstruction_task(self, cameras: Path) -> dict[str, Any]:
        """Give the configuration of stage 2."""
        assert self.reconstruction is not None
        model = {
            "backbone": self.backbone,
            "cameras": str(cameras),
            "template": self._template_file,
            "render_size": self.reconstruction.render_size,
            # Appearance and heads know more than how well an image is explained.
            "rescore": self.choice is None and self.rerank is None,
            **self.reconstruction.model,
        }
        return {"class_path": "kpose.tasks.ShapeTraining", "init_args": model}

    def _reconstruction_callbacks(self, folder: Path) -> list[dict[str, Any]]:
        """Give the configurations of what goes along with stage 2."""
        settings = self.reconstruction
        assert settings is not None
        prune = {"epoch": settings.prune_epoch, "keep": settings.keep, "min_angle_deg": settings.min_angle_deg}
        draw = {"every_n_epochs": max(1, settings.epochs // SHEETS), "folder": str(folder)}
        return [
            {"class_path": "kpose.callbacks.PruneCameras", "init_args": prune},
            {"class_path": "kpose.callbacks.LogShapes", "init_args": draw},
        ]

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
            model["shape_checkpoint"] = str(cameras.reconstruction)
        return {"class_path": "kpose.tasks.PoseEstimator", "init_args": model}

    def _adaptation_task(self, head: dict[str, Any], cameras: TrainingCameras, start: Path) -> dict[str, Any]:
        """Give the configuration of stage 4 for a head."""
        assert self.adaptation is not None
        trained = self._pose_task(head, cameras)["init_args"]
        model = {
            **{
                name: trained[name] for name in ("backbone", "head", "template", "reconstructor", "feature_dropout")
            },
            "start": str(start),
            "render_size": self.adaptation.render_size,
            **self.adaptation.model,
        }
        return {"class_path": "kpose.tasks.ShapeAdaptation", "init_args": model}
