"""What the data modules of photographs have in common: loaders, and augmentation on the batch."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Generic, TypeVar

import torch
from pytorch_lightning import LightningDataModule
from torch import nn
from torch.utils.data import DataLoader, DistributedSampler

from kpose.data.photo_dataset import PhotoDataset
from kpose.data.transforms import RandomColor, RandomCropJitter, RandomFlip, mirror_names
from kpose.structures import Batch

__all__ = ["PhotoDataModule", "check_sizes"]

D = TypeVar("D", bound=PhotoDataset)


def check_sizes(module: LightningDataModule, *, image_size: int, batch_size: int, num_workers: int) -> None:
    """Refuse sizes that torch's loaders would refuse only when training has begun.

    Args:
        module: Who needs them.
        image_size: Side of the images, in pixels.
        batch_size: Images of a batch.
        num_workers: Processes that load images.

    Raises:
        ValueError: If one of the first two is not positive, or the last is negative.
    """
    if image_size < 1 or batch_size < 1 or num_workers < 0:
        raise ValueError(
            f"{type(module).__name__} needs a positive image_size and batch_size, and num_workers of 0 or more; "
            f"got {image_size}, {batch_size} and {num_workers}. Change them."
        )


class PhotoDataModule(LightningDataModule, ABC, Generic[D]):
    """Loaders of cropped photos; a subclass says where the photos and their annotations come from.

    Training loaders give crops that are larger than ``image_size`` by the room that the jitter needs; the trainer
    cuts them down, jittered, mirrored and recoloured, after the batch has reached the device. Which picture comes
    when and what is done to it depends on the seed of ``seed_everything``, the epoch and the step alone: two runs
    with different networks see the same, and a resumed run sees what it would have seen.

    Args:
        image_size: Side of the images that networks see, in pixels.
        batch_size: Images of a batch.
        num_workers: Processes that load images; 0 loads in the main process.
        test_split: Split that ``test`` and ``predict`` use: ``train``, ``val`` or ``test``.
        padding: How far a training crop's edges lie outside the object's box on average, as a share of the box's
            longer side.
        jitter: Largest random movement of each edge in training, in the same share.
        eval_padding: Padding of validation and test crops (U-CMR's benchmark: 0; CMR's and UMR's: 0.05).
        flip: Share of training images that is mirrored.
        color: Strength of the random change of colours in training (see `RandomColor`); 0 changes none.
        fill: Grey value outside the photo, in [0, 1].
        cache: Whether decoded crops are kept in memory; a folder keeps them on disk for later runs too.

    Raises:
        ValueError: If ``image_size`` or ``batch_size`` is not positive, or ``num_workers`` is negative.
    """

    def __init__(
        self,
        *,
        image_size: int = 256,
        batch_size: int = 32,
        num_workers: int = 0,
        test_split: str = "val",
        padding: float = 0.05,
        jitter: float = 0.05,
        eval_padding: float = 0.05,
        flip: float = 0.5,
        color: float = 0.0,
        fill: float = 1.0,
        cache: bool | Path = True,
    ) -> None:
        super().__init__()
        check_sizes(self, image_size=image_size, batch_size=batch_size, num_workers=num_workers)
        self.image_size = image_size
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.test_split = test_split
        self.padding = padding
        self.jitter = jitter
        self.eval_padding = eval_padding
        self.flip = flip
        self.color = color
        self.fill = fill
        self.cache = cache
        self._datasets: dict[tuple[str, bool], D] = {}
        self._augmentation: nn.Module | None = None
        self._seed = 0

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the annotated parts; none unless a subclass has some."""
        return ()

    @abstractmethod
    def new_dataset(self, split: str, *, image_size: int, padding: float) -> D:
        """Make the data set of a split.

        Args:
            split: ``train``, ``val`` or ``test``.
            image_size: Side of its crops, in pixels.
            padding: Padding of its crops, as a share of the box's longer side.

        Returns:
            A new data set.
        """

    def dataset(self, split: str, *, train: bool = False) -> D:
        """Give the data set of a split, the same object every time.

        Args:
            split: ``train``, ``val`` or ``test``.
            train: Whether its crops have the room that the jitter needs; else they are those of an evaluation.

        Returns:
            The data set.
        """
        if (split, train) not in self._datasets:
            whole = 1 + 2 * self._margin
            size = round(self.image_size * whole / (1 + 2 * self.padding)) if train else self.image_size
            padding = self._margin if train else self.eval_padding
            self._datasets[split, train] = self.new_dataset(split, image_size=size, padding=padding)
        return self._datasets[split, train]

    def setup(self, stage: str) -> None:
        """Open the data sets of the stage and take note of the seed.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        self._seed = torch.initial_seed() % 2**31
        splits = {"fit": ("train", "val"), "validate": ("val",)}.get(stage, (self.test_split,))
        for split in splits:
            self.dataset(split, train=split == "train" and stage == "fit")

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of training crops, in random order."""
        dataset = self.dataset("train", train=True)
        ranks = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        # Lightning tells this sampler the epoch, also after a resume; it draws its order from seed and epoch.
        sampler = DistributedSampler[Batch](dataset, *ranks, shuffle=True, seed=self._seed)
        full = len(dataset) >= self.batch_size * ranks[0]
        return self._loader(dataset, sampler=sampler, drop_last=full)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of the split ``val``, in order."""
        return self._loader(self.dataset("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of the split ``test_split``, in order."""
        return self._loader(self.dataset(self.test_split))

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of the split ``test_split``, in order."""
        return self.test_dataloader()

    def augment(self, batch: Batch, *, seed: int) -> Batch:
        """Do to a batch of the training loader what training does to it.

        Args:
            batch: Batch of the training loader.
            seed: Decides what is drawn; the global random state is not touched.

        Returns:
            Batch of images of ``image_size``.
        """
        if self._augmentation is None:
            parts = self.part_names
            steps: list[nn.Module] = [
                RandomCropJitter(
                    self.image_size, padding=self.padding, jitter=self.jitter, margin=self._margin, fill=self.fill
                ),
                RandomFlip(self.flip, part_mirror=mirror_names(parts) if parts else None),
            ]
            self._augmentation = nn.Sequential(*steps, *([RandomColor(self.color)] if self.color else []))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            augmented: Batch = self._augmentation(batch)
        return augmented

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment batches of the training loader.

        Args:
            batch: Batch on its device.
            dataloader_idx: Number of the loader.

        Returns:
            The batch, augmented when training.
        """
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return batch
        step = trainer.fit_loop.total_batch_idx + 1
        # Distinct for every step and rank of a run; a Weyl step keeps the streams of neighbours apart.
        place = step * trainer.world_size + trainer.global_rank
        return self.augment(batch, seed=(self._seed + 0x9E3779B97F4A7C15 * place) % 2**63)

    @property
    def _margin(self) -> float:
        return self.padding + 2 * self.jitter

    def _loader(
        self, dataset: D, *, sampler: DistributedSampler[Batch] | None = None, drop_last: bool = False
    ) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
        )
