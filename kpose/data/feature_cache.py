"""Feature maps computed once: training a head on a frozen backbone without running the backbone again."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset

from kpose._distributed import share
from kpose.backbones import Backbone
from kpose.data._digests import describe_data, digest_tensors
from kpose.data._training_loader import TrainingLoader, default_workers
from kpose.data.feature_passes import FeaturePass, compute_pass, unflatten
from kpose.structures import Batch, Features

__all__ = ["CachedFeaturesDataModule"]

_FORMAT = 2  # raised when the files of a pass change


class CachedFeaturesDataModule(LightningDataModule):
    """Loaders of the frozen features of another data module's images.

    An epoch takes one of the views of each training image at random. Evaluation splits go through the backbone as
    they are. What is computed stays in ``folder``, one subfolder a pass over the images, under a key that changes
    with the backbone's weights and the data. A pass that is interrupted is computed again. The processes of a run
    share the images out; another run that computes the same waits for it.

    Args:
        data: Data module with the methods ``dataset`` and ``augment`` of `AugmentedDataModule`.
        backbone: The frozen backbone that the task has too, on the device that it is to be run on.
        folder: Where the features are kept; a view of a ResNet-50's last three stages at 224 px takes 1.4 MB.
        views: Augmented views of each training image.
        batch_size: Images of a training batch; that of ``data``, else 32, when None.
        seed: Decides the augmentation of the views.
        picture_size: Side of the images and masks of training batches; None leaves images out and masks as they
            are.
        precision: What the backbone computes in, by Lightning's names; what is kept is float16.

    Raises:
        ValueError: If ``views`` or ``picture_size`` is not positive or the backbone is not frozen.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.data import SyntheticBirdsDataModule
        >>> birds = SyntheticBirdsDataModule(num_train=4, image_size=32)
        >>> backbone = TinyBackbone(width=8).freeze()
        >>> data = CachedFeaturesDataModule(birds, backbone, folder=getfixture("tmp_path"), views=2, batch_size=2)
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader()))["features"].maps[0].shape
        torch.Size([2, 8, 8, 8])
    """

    def __init__(
        self,
        data: LightningDataModule,
        backbone: Backbone,
        *,
        folder: Path,
        views: int = 4,
        batch_size: int | None = None,
        seed: int = 0,
        picture_size: int | None = None,
        precision: Literal["32-true", "bf16-mixed"] = "32-true",
    ) -> None:
        super().__init__()
        if views < 1:
            raise ValueError(f"CachedFeaturesDataModule needs at least one view; got views={views}.")
        if picture_size is not None and picture_size < 1:
            raise ValueError(f"CachedFeaturesDataModule needs a positive picture_size; got {picture_size}.")
        if any(parameter.requires_grad for parameter in backbone.parameters()):
            raise ValueError(
                f"CachedFeaturesDataModule needs a frozen backbone, whose features stay the same; got a "
                f"{type(backbone).__name__} with trainable parameters. Build it with frozen=True."
            )
        self.data: Any = data
        self.backbone = backbone
        self.folder = Path(folder)
        self.views = views
        self.batch_size: int = getattr(data, "batch_size", 32) if batch_size is None else batch_size
        self.seed = seed
        self.picture_size = picture_size
        self.precision = precision
        self.image_size = getattr(data, "image_size", None)
        self.domain = getattr(data, "domain", None)
        self.test_split = getattr(data, "test_split", "test")
        self.num_workers = getattr(data, "num_workers", default_workers())
        self.train_rows: Sequence[int] | None = None
        self._seed = 0
        self._computed: dict[tuple[str, bool, int | None], CachedFeatures] = {}

    def prepare_data(self) -> None:
        """Prepare the other data module."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Compute the features of training that are missing; those of other splits wait for their loader.

        All processes do this together, so it is not for `prepare_data`, which is one's alone.
        """
        self._seed = torch.initial_seed() % 2**31
        if self.trainer is not None:
            self.backbone.to(self.trainer.strategy.root_device)
        if stage == "fit":
            self.features("train", train=True)

    def dataset(self, split: str, *, train: bool = False) -> Dataset[Batch]:
        """Return the data set of the images of a split, that of the other data module."""
        return cast("Dataset[Batch]", self.data.dataset(split, train=train))

    def features(self, split: str, *, train: bool = False) -> "CachedFeatures":
        """Return the features of a split, of augmented views with ``train``; what is missing is computed."""
        views, size = (range(self.views), self.picture_size) if train else ((None,), None)
        known = split, train, size
        if known not in self._computed:
            settings = json.dumps([_FORMAT, self.seed, self.precision, describe_data(self.data)])
            weights = digest_tensors(self.backbone.state_dict())
            key = hashlib.sha256(f"{settings} {weights}".encode()).hexdigest()[:16]
            how = self.seed, size, self.precision
            passes = [
                compute_pass(self.data, self.backbone, self.folder / key, split, view, *how) for view in views
            ]
            self._computed[known] = CachedFeatures([FeaturePass(*files) for files in passes], size)
        return self._computed[known]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the training split: a random view of each image, in random order."""
        dataset = self.features("train", train=True)
        rows = range(len(dataset)) if self.train_rows is None else self.train_rows
        return TrainingLoader(
            dataset, rows, self.batch_size, seed=self._seed, views=len(dataset.passes), **self._loading()
        )

    def view_dataloaders(self) -> list[DataLoader[Batch]]:
        """Return a loader for each view of the training split: this process's share of the images, in order."""
        views = [CachedFeatures([one]) for one in self.features("train", train=True).passes]
        return [self._loader(view, sampler=share(len(view))) for view in views]

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the split ``val``, in order."""
        return self._loader(self.features("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the split that ``data`` tests on, in order."""
        return self._loader(self.features(self.test_split))

    def _loader(self, dataset: "CachedFeatures", **options: Any) -> DataLoader[Batch]:  # noqa: ANN401
        return DataLoader(dataset, self.batch_size, **self._loading(), **options)

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
            "collate_fn": _identity,
        }


class CachedFeatures(Dataset[Batch]):
    """Images of a split, each as one of its passes, with pictures and masks of a size of their own if asked for.

    Number ``row + view * len(self)`` is an image in one of its views.
    """

    def __init__(self, passes: Sequence[FeaturePass], picture_size: int | None = None) -> None:
        self.passes = passes
        self.picture_size = picture_size

    def __len__(self) -> int:
        """Count the images."""
        return len(self.passes[0].maps[0])

    def __getitems__(self, indices: list[int]) -> Batch:
        """Read a whole batch; features are in half precision, as they are kept."""
        drawn = [divmod(index, len(self)) for index in indices]
        maps = tuple(
            torch.from_numpy(np.stack([self.passes[v].maps[n][i] for v, i in drawn]))
            for n in range(len(self.passes[0].maps))
        )
        rest = {name: torch.stack([self.passes[v].rest[name][i] for v, i in drawn]) for name in self.passes[0].rest}
        batch = unflatten(rest)
        batch["features"] = Features(maps)
        if self.picture_size is not None:
            pictures = [cast("Any", self.passes[v].pictures)[i] for v, i in drawn]
            batch["image"] = torch.from_numpy(np.stack(pictures)).float() / 255
            size = (self.picture_size, self.picture_size)
            batch["mask"] = interpolate(batch["mask"][:, None].float(), size, mode="area")[:, 0] > 0.5
        return batch


def _identity(batch: Any) -> Any:  # noqa: ANN401 - the loader believes it gets a list of items
    return batch
