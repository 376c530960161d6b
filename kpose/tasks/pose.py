"""Stage 3: train one pose head on one camera for each image."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from torchmetrics import MeanMetric, Metric

from kpose._checkpoint import network_of_checkpoint, read_checkpoint
from kpose._messages import one_line
from kpose.backbones import Backbone
from kpose.metrics import AngularError, KeypointTransfer, MaskIoU, ViewpointWasserstein
from kpose.network import HeadFactory, PoseNetwork, ReconstructorFactory, parts_of
from kpose.reconstruction import CameraTable
from kpose.rendering import HardRenderer, SoftRenderer
from kpose.structures import Batch, Camera, Domain, Mesh, PosePrediction, Template
from kpose.tasks.base import Task
from kpose.tasks.inputs import template_of, training_images
from kpose.tasks.repeats import without_repeats

__all__ = ["PoseEstimator"]

STEP_OUTPUT = dict[str, Any]
PARTLY_TRUE = ("iou_true_rotation", "iou_true_placement", "iou_true_camera")


class PoseEstimator(Task):
    """Train and score a pose head on the features of a backbone.

    Features come from the backbone, or from the batch where they were computed beforehand. The head says which
    batch entries train it; scores need ``camera`` (angles) and ``mask`` (silhouettes) and are left out where a data
    set has none. Silhouettes are those of the predicted shape, or of the template where none is predicted, seen by
    the predicted camera: hard (``iou``) and, on the test split, soft as well (``iou_soft``), and where the true
    camera is known three more times, which tells where the overlap is lost: under the predicted camera with the
    true rotation (``iou_true_rotation``), with the true scale and translation (``iou_true_placement``), and under
    the true camera (``iou_true_camera``). Where parts are annotated the test split has keypoint transfer as well
    (``pck_transfer``).

    Args:
        backbone: Where the features come from; a frozen one is neither trained nor switched to training mode.
        head: Builds the head from the backbone's `FeatureSpec` and the template; a head class is such a callable,
            and so is a `functools.partial` of one.
        optimizer: Builds the optimizer from the trained parameters.
        lr_scheduler: Builds the schedule from the optimizer and the number of steps of the whole run; it is
            advanced at every step. None keeps the learning rate.
        template: The category's mean shape, or its file; the built-in bird when None.
        reconstructor: Builds the network that predicts shapes (see `PoseNetwork`), frozen here: the head learns
            poses of the shapes that it predicts. None takes the template for the shape.
        shape_checkpoint: Checkpoint of a `ShapeTraining` whose weights ``reconstructor`` and ``backbone`` take
            before training.
        cameras: File of cameras (see `CameraTable.save`): the best one of each training image is its label, in
            place of the batch's ``camera``, which then is only compared with. None takes the batch's.
        feature_dropout: Share of the channels of every feature map that training leaves out, in [0, 1): it keeps a
            head on frozen features from learning few images by heart.
        backbone_lr: Learning rate of a backbone that is trained along; pretrained ones want a tenth of a head's or
            less. The optimizer's own when None.

    Attributes:
        network: What predicts: backbone, head and reconstructor.

    Raises:
        ValueError: If ``shape_checkpoint`` is given without ``reconstructor``, or ``backbone_lr`` for a frozen
            backbone.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.heads import QuaternionHead
        >>> task = PoseEstimator(TinyBackbone(width=8), head=QuaternionHead)
        >>> task(torch.zeros(2, 3, 64, 64)).camera.rotation.shape
        torch.Size([2, 3, 3])
    """

    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory,
        *,
        optimizer: Callable[[Iterable[Any]], Optimizer] = AdamW,
        lr_scheduler: Callable[[Optimizer, int], LRScheduler] | None = CosineAnnealingLR,
        template: Template | Path | None = None,
        reconstructor: ReconstructorFactory | None = None,
        shape_checkpoint: Path | None = None,
        cameras: Path | None = None,
        feature_dropout: float = 0.0,
        backbone_lr: float | None = None,
    ) -> None:
        super().__init__()
        self.record_hyperparameters()
        if backbone_lr is not None and backbone.frozen:
            raise ValueError(
                f"PoseEstimator needs a backbone that is trained for backbone_lr={backbone_lr}; got a frozen one. "
                "Leave backbone_lr out, or build the backbone with frozen=False."
            )
        if shape_checkpoint is not None and reconstructor is None:
            raise ValueError(
                f"PoseEstimator needs a reconstructor for the weights of {shape_checkpoint}; got none. Give the "
                "one that they were trained with."
            )
        self.network = PoseNetwork(backbone, head, template=template_of(template), reconstructor=reconstructor)
        self.shape_checkpoint = shape_checkpoint
        self.feature_dropout = nn.Dropout2d(feature_dropout)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.backbone_lr = backbone_lr
        self.camera_file = cameras
        self._labels: Callable[[Batch], Camera] | None = None
        self.renderer = HardRenderer()
        self.soft_renderer = SoftRenderer()
        self.scores = nn.ModuleDict({stage: _scores() for stage in ("val", "test")})
        # Lightning's own means across processes round the number of images, and half precision rounds any sum; the
        # names are the head's.
        self._means: dict[str, MeanMetric] = {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what builds the network again without the files of training; see `Task.on_save_checkpoint`."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["recipe"] = self.network.recipe()

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,  # noqa: ANN401
        map_location: Any = None,  # noqa: ANN401
        hparams_file: Any = None,  # noqa: ANN401
        strict: bool | None = None,
        weights_only: bool | None = None,
        *,
        trusted_modules: Sequence[str] = (),
        **kwargs: Any,  # noqa: ANN401
    ) -> "PoseEstimator":
        """Load a task from a checkpoint alone.

        The network comes back as it was. Plain arguments do, too; an optimizer, a schedule and files of labels are
        those of ``kwargs``, else the defaults, as they matter to further training only.

        Args:
            checkpoint_path: Checkpoint of this class.
            map_location: Device, or what `torch.Tensor.to` takes; the CPU when None.
            hparams_file: Not needed, as the checkpoint holds the arguments.
            strict: Whether weights have to fit exactly; True when None.
            weights_only: Checkpoints are always read as tensors and plain values.
            trusted_modules: Modules and packages beside kpose whose classes may be imported, which runs their code.
            kwargs: Arguments of the constructor that differ from the checkpoint's.

        Returns:
            The task, in training mode as Lightning has it.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it holds no network, or names classes that are not trusted; one line says which.
        """
        contents = read_checkpoint(checkpoint_path)
        recipe, weights = network_of_checkpoint(checkpoint_path, contents)
        parts = parts_of(recipe, weights, trusted_modules=trusted_modules)
        known_to_network = {name: parts.pop(name) for name in ("image_size", "domain", "template_poses")}
        known = inspect.signature(cls).parameters
        plain = {
            name: value
            for name, value in contents.get(cls.CHECKPOINT_HYPER_PARAMS_KEY, {}).items()
            if name in known and not isinstance(value, Mapping)
        }
        task = cls(**{**plain, **parts, **kwargs})
        for name, value in known_to_network.items():
            setattr(task.network, name, value)
        task.on_load_checkpoint(contents)
        task.load_state_dict(contents["state_dict"], strict=strict is not False)
        return task if map_location is None else task.to(map_location)

    def forward(
        self, image: Float[Tensor, "batch 3 H W"], vertices: Float[Tensor, "batch V 3"] | None = None
    ) -> PosePrediction:
        """Predict the pose of the object in every image.

        Args:
            image: RGB crops in [0, 1].
            vertices: Shape of the object in each image; what is predicted, or the template, when not given.

        Returns:
            What the head predicts.
        """
        prediction: PosePrediction = self.network(image, vertices)
        return prediction

    def setup(self, stage: str) -> None:
        """Read the weights of stage 2, and the cameras that label the training images."""
        data = getattr(self.trainer, "datamodule", None)
        size, domain = getattr(data, "image_size", None), getattr(data, "domain", None)
        if isinstance(size, int) and stage == "fit":
            self.network.image_size = size
        if isinstance(domain, Domain) and stage == "fit":
            learned = "camera labels" if self.camera_file is None else "cameras without pose labels"
            self.network.domain = domain._replace(labels=learned)
        if self.shape_checkpoint is not None and stage == "fit":
            # A checkpoint that is resumed is read after this and wins.
            _load_shapes(self.network, self.shape_checkpoint)
        if self.camera_file is not None and stage == "fit":
            images = training_images("PoseEstimator", getattr(self.trainer, "datamodule", None))
            table = CameraTable.for_images(images, file=self.camera_file)
            # The method alone is kept: the table is no part of the network or of its checkpoints.
            self._labels = table.to(self.device).labels

    def training_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT:
        """Predict, score against the head's own losses and log them."""
        if self._labels is not None:
            batch = Batch(**{**batch, "camera": self._labels(batch)})
        return self._step(batch, "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT | None:
        """Do the training step and update the scores, with the images that no other process scores."""
        own = without_repeats(batch, batch_idx, self.trainer.val_dataloaders)
        return None if own is None else self._step(own, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> STEP_OUTPUT | None:
        """Do the training step and update the scores, with the images that no other process scores."""
        own = without_repeats(batch, batch_idx, self.trainer.test_dataloaders)
        return None if own is None else self._step(own, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> PosePrediction:
        """Predict only."""
        return self._predict(batch)[0]

    def _predict(self, batch: Batch) -> tuple[PosePrediction, Float[Tensor, "batch V 3"]]:
        """Return poses and the shapes that they are poses of."""
        features = self.network.backbone.features_of(batch)
        vertices = self.network.shapes(features)
        thinned = features.map(self.feature_dropout)
        return self.network.pose(thinned, vertices), vertices

    def _step(self, batch: Batch, stage: str) -> STEP_OUTPUT:
        evaluating, head = stage != "train", self.network.head
        missing = sorted(head.supervision - batch.keys())
        # Images that were never labeled can still be scored by their silhouettes.
        unlabeled = evaluating and self.camera_file is not None
        if missing and not unlabeled:
            raise KeyError(
                f"{type(head).__name__} needs batch entries {sorted(head.supervision)}; this batch has "
                f"{sorted(batch)}. Take a data module that gives {missing}; cameras of photographs come from their "
                "part annotations (python -m kpose.data.sfm) or, without labels, from kpose pipeline."
            )
        prediction, vertices = self._predict(batch)
        if missing:
            self._score(prediction, vertices, batch, stage)
            return {"prediction": prediction, "vertices": vertices}
        terms = head.losses(prediction, batch)
        loss = torch.stack(list(terms.values())).sum()
        named = {f"{stage}/{name}": value for name, value in {**terms, "loss": loss}.items()}
        size = len(vertices)
        if not evaluating:
            self.log("train/loss", named.pop("train/loss"), batch_size=size, prog_bar=True)
            self.log_dict(named, batch_size=size)
            return {"loss": loss}
        for name, value in named.items():
            mean = self._means.setdefault(name, _mean(value.device))
            mean.update(value.detach().float(), size)
        self._score(prediction, vertices, batch, stage)
        return {"loss": loss, "prediction": prediction, "vertices": vertices}

    def _score(self, prediction: PosePrediction, vertices: Tensor, batch: Batch, stage: str) -> None:
        scores: Any = self.scores[stage]
        if "camera" in batch:
            scores["angle"].update(prediction.camera, batch["camera"])
            scores["viewpoint"].update(prediction.camera, batch["camera"])
        if "mask" in batch:
            size = (batch["mask"].shape[-2], batch["mask"].shape[-1])
            mesh = Mesh(vertices, self.network.faces)
            scores["iou"].update(self.renderer.silhouette(mesh, prediction.camera, size), batch["mask"])
            if stage == "test":
                soft = self.soft_renderer.silhouette(mesh, prediction.camera, size)
                scores["iou_soft"].update(soft, batch["mask"])
                if "parts" in batch:
                    found = (prediction.camera, mesh, batch["parts"], batch["parts_visible"])
                    scores["pck_transfer"].update(*found, _longer_side(batch["mask"]), batch["index"])
                for name, camera in _partly_true(prediction.camera, batch).items():
                    scores[name].update(self.renderer.silhouette(mesh, camera, size), batch["mask"])

    def on_validation_epoch_end(self) -> None:
        """Log the losses and scores of the split."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the losses and scores of the split."""
        self._log_scores("test")

    def _log_scores(self, stage: str) -> None:
        # Metrics are the same in every process; `sync_dist` spares users Lightning's advice to make them so.
        self.log_dict({name: mean.compute() for name, mean in self._means.items()}, sync_dist=True)
        self._means.clear()
        scores: Any = self.scores[stage]
        for name, metric in scores.items():
            assert isinstance(metric, Metric)
            if metric.update_called:
                value = metric.compute()
                values = value if isinstance(value, dict) else {name: value}
                named = {f"{stage}/{key}": v for key, v in values.items()}
                self.log_dict(named, prog_bar=name != "viewpoint", sync_dist=True)
            metric.reset()

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """Build the optimizer over everything that is trained, and its schedule over the whole run."""
        trained = [p for p in self.parameters() if p.requires_grad]
        if self.backbone_lr is None:
            return self._with_schedule(self.optimizer(trained))
        backbone = list(self.network.backbone.parameters())
        others = set(trained).difference(backbone)
        groups = [{"params": [p for p in trained if p in others]}, {"params": backbone, "lr": self.backbone_lr}]
        return self._with_schedule(self.optimizer(groups))

    def _with_schedule(self, optimizer: Optimizer) -> Any:  # noqa: ANN401
        if self.lr_scheduler is None:
            return optimizer
        schedule = self.lr_scheduler(optimizer, int(self.trainer.estimated_stepping_batches))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def _load_shapes(network: PoseNetwork, path: Path) -> None:
    """Load the weights of reconstructor and backbone from stage 2 into a network."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}. Train stage 2 with kpose.tasks.ShapeTraining.")
    weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    for name in ("reconstructor", "backbone"):
        part: nn.Module = getattr(network, name)
        own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
        try:
            part.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(
                f"PoseEstimator needs the {name} that {path} was trained with; got {type(part).__name__}, which "
                f"does not fit ({one_line(error)[:300]}). Configure both stages alike."
            ) from error


def _scores() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "angle": AngularError(),
            "viewpoint": ViewpointWasserstein(),
            "pck_transfer": KeypointTransfer(),
            "iou": MaskIoU(soft=False),
            "iou_soft": MaskIoU(soft=True),
            **{name: MaskIoU(soft=False) for name in PARTLY_TRUE},
        }
    )


def _mean(device: torch.device) -> MeanMetric:
    mean = MeanMetric().to(device)
    mean.set_dtype(torch.float32)
    return mean


def _longer_side(mask: Tensor) -> Float[Tensor, "batch"]:
    """Measure the longer side of the box around each mask, in normalized units."""
    sides = []
    for dim in (-1, -2):
        lines = mask.any(dim)
        last = lines.shape[-1] - lines.flip(-1).int().argmax(-1)
        sides.append((last - lines.int().argmax(-1)) * lines.any(-1) * 2 / lines.shape[-1])
    return torch.maximum(*sides)


def _partly_true(predicted: Camera, batch: Batch) -> dict[str, Camera]:
    """Put the true rotation, the true scale and translation, and both into predicted cameras."""
    if "camera" not in batch:
        return {}
    true = batch["camera"]
    turned = predicted._replace(rotation=true.rotation)
    placed = true._replace(rotation=predicted.rotation)
    return dict(zip(PARTLY_TRUE, (turned, placed, true), strict=True))
