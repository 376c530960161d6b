"""Base of the data modules: loaders, and augmentation of training batches on their device."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence, Sized
from typing import Any, cast

import torch
from pytorch_lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, Dataset

from kpose._limits import check_side
from kpose.data._training_loader import TrainingLoader, default_workers
from kpose.recipe import Recorded
from kpose.structures import Batch, Domain

__all__ = ["AugmentedDataModule"]


class AugmentedDataModule(Recorded, LightningDataModule, ABC):
    """Loaders of the splits ``train``, ``val`` and ``test``; training batches are augmented on their device.

    Which image comes when and what is done to it depends on the seed of ``seed_everything``, the epoch, the step
    and the rank alone: two runs with different networks see the same, and a resumed run sees what it would have
    seen.

    Args:
        image_size: Side of the images that networks see, in pixels.
        batch_size: Images of a batch.
        num_workers: Processes that load images; 0 loads in the main process. When None, several where a GPU trains,
            as many as there are cores for, and 0 elsewhere.
        test_split: Split that ``test`` and ``predict`` use: ``train``, ``val`` or ``test``.

    Attributes:
        train_rows: Places of the images of the training split that are trained on; all when None.

    Raises:
        ValueError: If ``image_size`` or ``batch_size`` is not positive, ``image_size`` is over 4,096, or
            ``num_workers`` is negative.

    Example:
        >>> class Gray(Dataset[Batch]):
        ...     def __len__(self):
        ...         return 4
        ...     def __getitem__(self, index):
        ...         return {"image": torch.full((3, 8, 8), 0.5)}
        >>> class GrayDataModule(AugmentedDataModule):
        ...     def dataset(self, split, *, train=False):
        ...         return Gray()
        ...     def new_augmentation(self):
        ...         return nn.Identity()
        >>> data = GrayDataModule(image_size=8, batch_size=2)
        >>> next(iter(data.val_dataloader()))["image"].shape
        torch.Size([2, 3, 8, 8])
    """

    train_rows: Sequence[int] | None = None

    def __init__(
        self, *, image_size: int, batch_size: int, num_workers: int | None = None, test_split: str = "test"
    ) -> None:
        super().__init__()
        num_workers = default_workers() if num_workers is None else num_workers
        check_side(image_size, type(self).__name__)
        if batch_size < 1 or num_workers < 0:  # torch would refuse them when training has begun
            raise ValueError(
                f"{type(self).__name__} needs a positive batch_size, and num_workers of 0 or more; got "
                f"{batch_size} and {num_workers}. Change them."
            )
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.test_split = test_split
        self._augmentation: nn.Module | None = None
        self._seed = 0

    @abstractmethod
    def dataset(self, split: str, *, train: bool = False) -> Dataset[Batch]:
        """Return the data set of a split, the same object every time.

        Args:
            split: ``train``, ``val`` or ``test``.
            train: Whether its items have the room that augmentation needs; else they are those of an evaluation.

        Returns:
            Data set with a length, and ``names``, ``indices`` of its items.
        """

    @abstractmethod
    def new_augmentation(self) -> nn.Module:
        """Return what changes a training batch; called once, at the first training batch.

        Returns:
            Module from `Batch` to `Batch`; it draws from torch's global generator of the CPU, so that every device
            gives the same.
        """

    @property
    def domain(self) -> Domain:
        """What a network learns here; checkpoints keep it."""
        return Domain("pictures", "object", type(self).__name__)

    @property
    def split_sizes(self) -> Mapping[str, int]:
        """Number of images of each split; empty as long as it is not known."""
        return {}

    def __repr__(self) -> str:
        """Describe the data in a line: images of each split, and sizes."""
        sizes = ", ".join(f"{count} {split}" for split, count in self.split_sizes.items()) or "not read yet"
        return f"{type(self).__name__}({sizes}; {self.image_size} px, batches of {self.batch_size})"

    __str__ = __repr__

    def setup(self, stage: str) -> None:
        """Open the data sets of the stage and take note of the seed.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        self._seed = torch.initial_seed() % 2**31
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, (self.test_split,)):
            self.dataset(split, train=split == "train" and stage == "fit")

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of training batches, in random order."""
        dataset = self.dataset("train", train=True)
        rows = range(len(cast("Sized", dataset))) if self.train_rows is None else self.train_rows
        return TrainingLoader(dataset, rows, self.batch_size, seed=self._seed, **self._loading())

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the split ``val``, in order."""
        return self._loader(self.dataset("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the split ``test_split``, in order."""
        return self._loader(self.dataset(self.test_split))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the split ``test_split``, in order."""
        return self.test_dataloader()

    def augment(self, batch: Batch, *, seed: int) -> Batch:
        """Change a batch of the training loader as training does.

        Args:
            batch: Batch of the training loader.
            seed: Decides what is drawn; the global random state is not touched.

        Returns:
            Batch of images of ``image_size``.
        """
        if self._augmentation is None:
            self._augmentation = self.new_augmentation()
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed accelerators, too
            augmented: Batch = self._augmentation.to(batch["image"].device)(batch)
        return augmented

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment batches of the training loader; see Lightning's hook of this name."""
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return batch
        # Distinct for every step and rank of a run; a Weyl step keeps the streams of neighbors apart.
        place = (trainer.fit_loop.total_batch_idx + 1) * trainer.world_size + trainer.global_rank
        return self.augment(batch, seed=(self._seed + 0x9E3779B97F4A7C15 * place) % 2**63)

    def _loader(self, dataset: Dataset[Batch]) -> DataLoader[Batch]:
        return DataLoader(dataset, self.batch_size, **self._loading())

    def _loading(self) -> dict[str, Any]:
        return {
            "num_workers": self.num_workers,
            "persistent_workers": self.num_workers > 0,
            "pin_memory": torch.cuda.is_available(),
        }
