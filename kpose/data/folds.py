"""A data module without a part of its training images, for networks that judge that part."""

from typing import Any, cast

from jaxtyping import Int
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from kpose.structures import Batch

__all__ = ["FoldDataModule", "fold_indices"]


def fold_indices(indices: Int[Tensor, "N"], fold: int, folds: int) -> Int[Tensor, "_"]:
    """Give the images of a fold: every ``folds``-th one.

    Args:
        indices: Identities of the images, in the order of their data set.
        fold: Number of the fold, from 0.
        folds: How many folds there are.

    Returns:
        Identities; each image is in one fold.

    Example:
        >>> import torch
        >>> fold_indices(torch.tensor([7, 8, 9]), 0, 2)
        tensor([7, 9])
    """
    return indices[fold::folds]


class FoldDataModule(LightningDataModule):
    """Train on the images of another data module that are not in a fold; all else is as there.

    Args:
        data: Data module with a method ``dataset``.
        fold: Number of the fold that is left out, from 0.
        folds: How many folds there are.

    Raises:
        ValueError: If there is no such fold.
    """

    def __init__(self, data: LightningDataModule, *, fold: int, folds: int = 2) -> None:
        super().__init__()
        if not 0 <= fold < folds:
            raise ValueError(f"FoldDataModule needs a fold from 0 to {folds - 1}; got {fold}. Change it.")
        self.data: Any = data
        self.fold = fold
        self.folds = folds
        self.image_size = getattr(data, "image_size", None)

    def prepare_data(self) -> None:
        """Prepare the other data module."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Set the other data module up.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        self.data.trainer = self.trainer
        self.data.setup(stage)

    def dataset(self, split: str, *, train: bool = False) -> Dataset[Batch]:
        """Give the whole data set of a split.

        Args:
            split: ``train``, ``val`` or ``test``.
            train: Whether its crops have the room that augmentation needs.

        Returns:
            The data set of the other data module.
        """
        return cast("Dataset[Batch]", self.data.dataset(split, train=train))

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of the training images outside of the fold, in random order."""
        loader = self.data.train_dataloader()
        rows = [row for row in range(len(loader.dataset)) if row % self.folds != self.fold]
        return DataLoader(
            Subset(loader.dataset, rows),
            loader.batch_size,
            shuffle=True,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            drop_last=len(rows) >= loader.batch_size,
        )

    def val_dataloader(self) -> DataLoader[Batch]:
        """Give the other data module's loader."""
        return cast("DataLoader[Batch]", self.data.val_dataloader())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Do to a batch what the other data module does.

        Args:
            batch: Batch on its device.
            dataloader_idx: Number of the loader.

        Returns:
            Batch.
        """
        return cast("Batch", self.data.on_after_batch_transfer(batch, dataloader_idx))
