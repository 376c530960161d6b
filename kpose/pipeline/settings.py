"""Settings of the stages of a pipeline."""

import math
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pytorch_lightning.plugins import CheckpointIO
from pytorch_lightning.plugins.environments import ClusterEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.strategies import Strategy

from kpose.backbones import Backbone
from kpose.network import HeadFactory, ReconstructorFactory
from kpose.reconstruction import CameraTable, SearchLevel, ViewpointGrid
from kpose.structures import Template
from kpose.tasks import ShapeAdaptation, ShapeTraining

__all__ = [
    "AdaptationSettings",
    "ChoiceSettings",
    "PoseSettings",
    "RerankSettings",
    "SearchSettings",
    "ShapeSettings",
    "TrainerSettings",
    "check_stages",
]

Precision = Literal["32-true", "bf16-mixed"]


def _check(settings: object, **least: int) -> None:
    """Refuse numbers that a stage, hours later, would fail on."""
    for name, limit in least.items():
        value = getattr(settings, name)
        if value is not None and not limit <= value < math.inf:
            raise ValueError(f"{type(settings).__name__} needs {name} from {limit}; got {value}. Change it.")


@dataclass(frozen=True)
class SearchSettings:
    """Stage 1: the search of cameras by silhouette (see `kpose.tasks.CameraSearch`).

    Example:
        >>> SearchSettings(levels=(SearchLevel(32, 50, 0.1, 1e-4),)).num_vertices
        160
    """

    levels: tuple[SearchLevel, ...] = (SearchLevel(48, 50, 0.1, 1e-4),)
    """Resolutions, coarse to fine."""
    grid: ViewpointGrid = field(default_factory=ViewpointGrid)
    """Cameras that every image starts with."""
    num_vertices: int | None = 160
    """Vertices of the template that are rendered; all when None."""
    gain: float = 0.3
    """Factor of the angular residuals."""
    batch_size: int = 20
    """Images that are searched together."""

    def __post_init__(self) -> None:
        """Refuse what finds no cameras."""
        _check(self, batch_size=1, num_vertices=1)
        if not self.levels:
            raise ValueError("SearchSettings needs a level; got none. Give one.")


@dataclass(frozen=True)
class ChoiceSettings:
    """The choice among cameras by appearance (see `kpose.reconstruction.choose_cameras`).

    Example:
        >>> ChoiceSettings(num_rotations=500).rounds
        6
    """

    num_vertices: int = 160
    """Vertices of the template that are looked at."""
    num_rotations: int = 2000
    """Candidate rotations."""
    feature_map: int = 0
    """Place of the feature map among the backbone's."""
    dimensions: int = 96
    """Principal components that are kept."""
    rounds: int = 6
    """Rounds of expectation and maximization."""
    temperature: float = 0.35
    """Difference of similarity, in standard deviations, that changes the odds of a rotation by a factor e."""
    silhouette_weight: float = 6.0
    """Logarithm of the odds between an image's best and worst silhouette."""
    hubness: float = 0.4
    """Share of what all images have in common that is taken off a rotation's similarity and overlap."""
    balance: float = 0.6
    """Power of the density of all images' probabilities that each one is divided by."""

    def __post_init__(self) -> None:
        """Refuse what chooses nothing."""
        _check(self, num_vertices=1, num_rotations=1, dimensions=1, rounds=1)


@dataclass(frozen=True)
class RerankSettings:
    """Re-ranking of cameras by heads that were trained on other images.

    Example:
        >>> from kpose.heads import ProcrustesHead
        >>> RerankSettings({"svd": ProcrustesHead}, folds=3).rounds
        1
    """

    heads: Mapping[str, HeadFactory]
    """Builds each head, by a name; all count alike."""
    rounds: int = 1
    """Rounds of training and re-ranking, positive."""
    folds: int = 2
    """Parts of the training images, from 2: a head that predicts one part is trained on the others."""
    weight: float = 0.5
    """Share of the heads in the losses of the cameras and in the mean, in [0, 1]; the rest is what was chosen."""
    fit: SearchLevel | None = None
    """How the mean of the chosen camera and the predicted ones is fitted to each silhouette, to become the image's
    best camera in the place of its worst one; when None, heads only re-rank the existing cameras."""

    def __post_init__(self) -> None:
        """Refuse settings without effect."""
        if not self.heads:
            raise ValueError("RerankSettings needs a head; got none. Name one, or leave `rerank` out.")
        if self.rounds < 1 or self.folds < 2 or not 0 <= self.weight <= 1:
            raise ValueError(
                "RerankSettings needs a round, two folds and a weight in [0, 1]; got "
                f"{self.rounds}, {self.folds} and {self.weight}. Change them, or leave `rerank` out."
            )


@dataclass(frozen=True)
class ShapeSettings:
    """Stage 2: shape and texture, while cameras are refined.

    Example:
        >>> ShapeSettings(epochs=3).keep
        4
    """

    epochs: int = 20
    """Passes over the training images."""
    prune_epoch: int = 1
    """Epoch before which the cameras are pruned."""
    keep: int = 4
    """Cameras that each image keeps."""
    min_angle_deg: float = 0.0
    """Least angle between kept cameras."""
    batch_size: int = 12
    """Images of a batch."""
    rescore: bool | None = None
    """Whether cameras are ranked again by how well they explain their images. When None, the task decides, but
    what appearance or heads have ranked, which know more than that, keeps its order."""
    task: Callable[[Backbone, CameraTable, Template], ShapeTraining] = ShapeTraining
    """Builds the task from backbone, cameras and mean shape: a class, or a `functools.partial` of one."""

    def __post_init__(self) -> None:
        """Refuse what learns no shape."""
        _check(self, epochs=1, prune_epoch=0, keep=1, batch_size=1)


@dataclass(frozen=True)
class PoseSettings:
    """Stage 3: the pose heads, each trained on the best cameras (see `kpose.tasks.PoseEstimator`).

    Example:
        >>> PoseSettings(epochs=5).batch_size
        32
    """

    epochs: int = 20
    """Passes over the training images."""
    learning_rate: float = 2e-3
    """Learning rate of AdamW at the start of a cosine schedule."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    feature_dropout: float = 0.0
    """Share of feature channels that training leaves out."""
    batch_size: int = 32
    """Images of a batch."""

    def __post_init__(self) -> None:
        """Refuse what trains no head."""
        _check(self, epochs=1, learning_rate=0, weight_decay=0, batch_size=1)
        if not 0 <= self.feature_dropout < 1:
            raise ValueError(
                f"PoseSettings needs feature_dropout in [0, 1); got {self.feature_dropout}. Change it."
            )


@dataclass(frozen=True)
class AdaptationSettings:
    """Stage 4: shapes for the cameras of each head.

    Example:
        >>> AdaptationSettings(epochs=3).batch_size
        32
    """

    epochs: int = 6
    """Passes over the training images."""
    batch_size: int = 32
    """Images of a batch."""
    task: Callable[[Backbone, HeadFactory, ReconstructorFactory, Template, Path], ShapeAdaptation] = ShapeAdaptation
    """Builds the task from backbone, head, reconstructor, mean shape and the checkpoint of stage 3: a class, or a
    `functools.partial` of one."""

    def __post_init__(self) -> None:
        """Refuse what fits no shape."""
        _check(self, epochs=1, batch_size=1)


@dataclass(frozen=True)
class TrainerSettings:
    """Devices, precision and time limit of all stages; results for any number of devices differ by rounding only.

    Example:
        >>> TrainerSettings(max_time="00:11:30:00").seconds
        41400.0
    """

    accelerator: str = "auto"
    """Kind of device, by Lightning's names."""
    devices: list[int] | str | int = 1
    """Devices of each node: how many, which, or ``auto`` for all. They share the images of each batch."""
    num_nodes: int = 1
    """Nodes."""
    strategy: str | Strategy = "auto"
    """How several devices train together, as Lightning has it: DDP when ``auto``."""
    precision: Precision | Literal["auto"] = "32-true"
    """Of features that are kept and of the training of heads; ``auto`` takes the faster one on the device (see
    `fast_precision`). Results in another precision are others."""
    plugins: list[ClusterEnvironment | CheckpointIO] | None = None
    """Lightning's plugins: clusters that it does not know by itself, how checkpoints are written."""
    sync_batchnorm: bool = False
    """Whether batch normalization sees the batch of all devices."""
    compile: bool = False
    """Whether stages 2 to 4 train compiled networks (see `kpose.callbacks.Compilation`)."""
    max_time: str | None = None
    """Time after which the run saves and ends, to go on when it is started again: ``DD:HH:MM:SS``."""

    def __post_init__(self) -> None:
        """Refuse what no run can be limited to."""
        _check(self, num_nodes=1)
        if self.max_time is not None and not re.fullmatch(r"\d+(:\d\d){3}", self.max_time):
            raise ValueError(f"TrainerSettings needs max_time as DD:HH:MM:SS; got {self.max_time!r}. Change it.")

    @property
    def seconds(self) -> float | None:
        """The time limit; None if there is none."""
        if self.max_time is None:
            return None
        days, hours, minutes, seconds = map(int, self.max_time.split(":"))
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()


def check_stages(
    heads: Collection[str],
    rerank: RerankSettings | None,
    shapes: ShapeSettings | None,
    adaptation: AdaptationSettings | None,
    only: str | None,
) -> None:
    """Refuse stages that do not fit each other, and a part of a run that is none."""
    if not heads:
        raise ValueError("Pipeline needs a pose head; got none. Name one under `heads`.")
    if adaptation is not None and shapes is None:
        raise ValueError(
            "Pipeline needs the shapes of stage 2 to adapt them to heads; got no `shapes`. Give it, or leave "
            "`adaptation` out."
        )
    folds = [] if rerank is None else [f"rerank/{k}-fold{n}" for k in rerank.heads for n in range(rerank.folds)]
    parts = ["cameras", *folds, *(f"heads/{name}" for name in heads)]
    if only is not None and only not in parts:
        raise ValueError(f"Pipeline needs a part of this run as `only`: {', '.join(parts)}; got {only!r}.")
