"""The data of the stages: what a data module has to have, and folds of its training images."""

import copy
from typing import Any

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


def without_fold(data: Any, fold: int, folds: int) -> Any:  # noqa: ANN401
    """Copy a data module such that its training leaves every ``folds``-th image out, from number ``fold`` on."""
    part = copy.copy(data)
    part.train_rows = [row for row in range(len(data.dataset("train"))) if row % folds != fold]
    return part
