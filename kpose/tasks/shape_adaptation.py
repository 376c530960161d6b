"""Stage 4: fit the shapes of a trained pose network to the cameras that its head predicts."""

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from kpose._messages import one_line
from kpose.backbones import Backbone
from kpose.heads import PoseHead
from kpose.losses import AppearanceDistance, PixelDistance, chordal_distance
from kpose.network import HeadFactory, ReconstructorFactory
from kpose.reconstruction import MeshReconstructor, MultiplexObjective
from kpose.structures import Batch, Camera, Features, Template
from kpose.tasks.pose import STEP_OUTPUT, PoseEstimator
from kpose.tasks.shape_training import compared_pictures

__all__ = ["ShapeAdaptation"]

NEEDED = ("image", "mask")


def adam(parameters: Iterable[Any]) -> Adam:
    """Build Adam with a learning rate of 5e-4."""
    return Adam(parameters, lr=5e-4)


class ShapeAdaptation(PoseEstimator):
    """Train shape and texture of a trained pose network on images and masks, seen by the network's own cameras.

    Stage 2 learns shapes under cameras that were fitted to each image, and such cameras make up for what a shape
    lacks; those of a head do not. Here the backbone stays as it is, and the reconstructor learns by the losses of
    stage 2 what the head's cameras leave unexplained; the head, if asked, learns where objects are and how large.
    No camera is needed, nor is one read.

    The head is given the template in place of the shapes, here and from then on (`PoseNetwork.template_poses`).
    Otherwise the cameras of a head that reads shapes would follow them: what a shape gains by turning against its
    camera is lost again as the camera turns back, and both go on turning.

    Args:
        backbone: Where the features come from, frozen.
        head: Builds the head.
        reconstructor: Builds the network that is trained.
        template: The category's mean shape, or its file; see `PoseEstimator`.
        start: Checkpoint of the `PoseEstimator` whose weights the network takes before training.
        distance: How unlike rendered and photographed objects are; `PixelDistance` when None.
        objective: Builds the losses from the template and the distance, with their weights and renderer.
        head_lr: Learning rate of the head, which then learns where objects are and how large; 0 leaves the head as
            it is. Silhouettes give rotations no gradient: they would turn objects to wherever they fit. Parts of a
            head that placement does not depend on get none either, which a run of several processes has to allow
            (Lightning's strategy ``ddp_find_unused_parameters_true``).
        rotation_weight: Weight of how far a head that learns goes from the rotations that it gave at the start:
            sin² of half the angle. Rotations come from the same features and points as places and sizes, and go
            astray without it.
        optimizer: Builds the optimizer from the parameters that are trained; those of the head are a group with a
            learning rate of its own.
        lr_scheduler: Builds its schedule from the optimizer and the number of steps of the whole run; None keeps
            the learning rate.
        feature_dropout: Share of the channels of every feature map that the reconstructor is not shown in training.
        render_size: Side to which images and masks are reduced before they are compared; None compares them as
            they are.

    Raises:
        ValueError: If ``render_size`` is not positive, ``head_lr`` or ``rotation_weight`` negative, or the head
            reads shapes; when training starts, if ``start`` holds another network.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020, for the losses; that shapes are trained under
        predicted cameras is ours.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.heads import QuaternionHead
        >>> task = ShapeAdaptation(TinyBackbone(width=8), QuaternionHead)
        >>> sorted({name.split(".")[1] for name, part in task.named_parameters() if part.requires_grad})
        ['reconstructor']
    """

    def __init__(
        self,
        backbone: Backbone,
        head: HeadFactory,
        reconstructor: ReconstructorFactory = MeshReconstructor,
        template: Template | Path | None = None,
        start: Path | None = None,
        *,
        distance: AppearanceDistance | None = None,
        objective: Callable[[Template, AppearanceDistance], MultiplexObjective] = MultiplexObjective,
        head_lr: float = 0.0,
        rotation_weight: float = 100.0,
        optimizer: Callable[[Iterable[Any]], Optimizer] = adam,
        lr_scheduler: Callable[[Optimizer, int], LRScheduler] | None = CosineAnnealingLR,
        feature_dropout: float = 0.0,
        render_size: int | None = None,
    ) -> None:
        super().__init__(
            backbone,
            head,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            template=template,
            reconstructor=reconstructor,
            feature_dropout=feature_dropout,
        )
        if render_size is not None and render_size < 1:
            raise ValueError(f"ShapeAdaptation needs a positive render_size; got {render_size}. Raise it.")
        for name, value in (("head_lr", head_lr), ("rotation_weight", rotation_weight)):
            if not value >= 0:
                raise ValueError(f"ShapeAdaptation needs a {name} of at least 0; got {value}. Give 0 for none.")
        self.network.template_poses = True
        self.network.requires_grad_(False).eval()
        self.reconstructor.requires_grad_(True)
        self.network.head.requires_grad_(head_lr > 0)
        self.head_lr = head_lr
        self.rotation_weight = rotation_weight
        holds = head_lr > 0 and rotation_weight > 0
        # Part of the checkpoint, so that a run that is resumed is held to the same rotations.
        self.held: PoseHead | None = (
            copy.deepcopy(self.network.head).requires_grad_(False).eval() if holds else None
        )
        self.objective = objective(self.network.template, PixelDistance() if distance is None else distance)
        self.start = start
        self.render_size = render_size

    @property
    def reconstructor(self) -> MeshReconstructor:
        """The network that is trained."""
        assert self.network.reconstructor is not None
        return self.network.reconstructor

    def train(self, mode: bool = True) -> "ShapeAdaptation":
        """Switch between training and evaluation; the network predicts as in evaluation in both."""
        super().train(mode)
        self.network.eval()
        if self.held is not None:
            self.held.eval()
        return self

    def setup(self, stage: str) -> None:
        """Read the weights that training starts with."""
        super().setup(stage)
        if self.start is None or stage != "fit":
            return
        # A checkpoint that is resumed is read after this and wins.
        if not Path(self.start).is_file():
            raise FileNotFoundError(f"There is no checkpoint {self.start}. Train stage 3 with PoseEstimator.")
        weights = torch.load(self.start, map_location="cpu", weights_only=True)["state_dict"]
        own = {k.removeprefix("network."): v for k, v in weights.items() if k.startswith("network.")}
        try:
            self.network.load_state_dict(own)
        except RuntimeError as error:
            raise ValueError(
                f"ShapeAdaptation needs the network that {self.start} was trained with; got another "
                f"({one_line(error)[:300]}). Configure both stages alike."
            ) from error
        if self.held is not None:
            self.held.load_state_dict(self.network.head.state_dict())

    def _step(self, batch: Batch, stage: str) -> STEP_OUTPUT:
        if stage != "train":
            prediction, vertices = self._predict(batch)
            self._score(prediction, vertices, batch, stage)
            return {"prediction": prediction, "vertices": vertices}
        missing = [name for name in NEEDED if name not in batch]
        if missing:
            raise KeyError(
                f"ShapeAdaptation needs batch entries {list(NEEDED)}; this batch has {sorted(batch)}. Take a data "
                f"module that gives {missing}."
            )
        features = self.network.backbone.features_of(batch)
        thinned = features.map(self.feature_dropout)
        camera = self._cameras(features, thinned)
        terms = self._hold(features, camera)
        camera = camera._replace(rotation=camera.rotation.detach())
        shapes = self.reconstructor(thinned)
        one = camera.at((slice(None), None))
        pictures = compared_pictures(batch, self.render_size)
        terms |= self.objective.terms(self.objective(shapes, self.reconstructor.mesh(shapes), one, *pictures))
        loss = torch.stack(list(terms.values())).sum()
        size = len(camera.scale)
        self.log("train/loss", loss, batch_size=size, prog_bar=True)
        self.log_dict({f"train/{name}": value for name, value in terms.items()}, batch_size=size)
        return {"loss": loss}

    def _cameras(self, features: Features, thinned: Features) -> Camera:
        """Predict the cameras that the shapes are seen by."""
        head = self.network.head
        if self.head_lr == 0:
            with torch.no_grad():
                camera: Camera = head(features).camera
        else:
            camera = head.camera_of(head(thinned))
        return camera

    def _hold(self, features: Features, camera: Camera) -> dict[str, Tensor]:
        """Score how far the head has gone from the rotations that it gave at the start."""
        if self.held is None:
            return {}
        with torch.no_grad():
            start = self.held(features).camera.rotation
        return {"rotation": self.rotation_weight * chordal_distance(camera.rotation, start).mean()}

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """Build the optimizer over the reconstructor, and the head where it is trained, and its schedule."""
        groups: list[dict[str, Any]] = [{"params": list(self.reconstructor.parameters())}]
        if self.head_lr > 0:
            groups.append({"params": list(self.network.head.parameters()), "lr": self.head_lr})
        return self._with_schedule(self.optimizer(groups))
