"""The data of the stages: what a data module has to have, and folds of its training images."""

import copy
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Subset

from kpose.structures import Batch

__all__ = ["check_data", "without_fold"]


def check_data(data: Any) -> None:  # noqa: ANN401 - any Lightning data module
    """Open the data sets that a pipeline needs; what cannot be read raises, and so does a missing ``dataset``."""
    if not hasattr(data, "dataset"):
        raise TypeError(
            f"Pipeline needs a data module with a method `dataset`; got {type(data).__name__}. Take one of "
            "kpose.data, or add the method."
        )
    for split in ("train", getattr(data, "test_split", "test")):
        data.dataset(split)


def without_fold(data: LightningDataModule, fold: int, folds: int) -> LightningDataModule:
    """Return a data module whose training leaves every ``folds``-th image out, from number ``fold`` on.

    It is a copy with another ``train_dataloader``; all else, such as the augmentation, is as it was.
    """
    part: Any = copy.copy(data)

    def train_dataloader() -> DataLoader[Batch]:
        loader: Any = type(data).train_dataloader(part)
        rows: Sequence[int] = [row for row in range(len(loader.dataset)) if row % folds != fold]
        return DataLoader(
            Subset(loader.dataset, rows),
            loader.batch_size,
            shuffle=True,
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            drop_last=len(rows) >= loader.batch_size,
        )

    part.train_dataloader = train_dataloader
    return part  # type: ignore[no-any-return]
