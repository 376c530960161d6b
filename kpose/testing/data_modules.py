"""The contract of data modules."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kpose.structures import Batch
from kpose.testing.expect import Expect, expect_camera, expecting

__all__ = ["check_data_module"]


def check_data_module(data: Any) -> None:  # noqa: ANN401 - Lightning's, which predicting does without
    """Check that a data module gives batches that kpose's tasks can use.

    Batches have entries of `Batch` only; images are RGB in [0, 1]; masks have their size; cameras are sound; parts
    that are not visible are zero; indices name each image once. Validation and test come in the same order twice.

    Args:
        data: A `LightningDataModule`; small, since all of it is read.

    Raises:
        AssertionError: If the data module breaks a rule; the message names it.

    Example:
        >>> from kpose.data import SyntheticBirdsDataModule
        >>> check_data_module(SyntheticBirdsDataModule(num_train=4, num_val=2, num_test=2, image_size=32))
    """
    expect = expecting("A data module")
    data.prepare_data()
    data.setup("fit")
    _check_split(expect, data.train_dataloader(), "train")
    _check_twice(expect, data.val_dataloader, "val")
    data.setup("test")
    _check_twice(expect, data.test_dataloader, "test")


def _check_twice(expect: Expect, loader: Any, split: str) -> None:  # noqa: ANN401 - makes a loader
    first, second = (_check_split(expect, loader(), split) for _ in range(2))
    expect(first == second, f"the same order of {split} images every time; got {first} and {second}")


def _check_split(expect: Expect, loader: Iterable[Mapping[str, Any]], split: str) -> list[int]:
    """Check the batches of a split and return the indices of its images."""
    found: list[int] = []
    for batch in loader:
        _check_batch(expect, batch, f"in {split} batches")
        found += batch["index"].tolist()
    expect(len(found) > 0, f"at least one {split} image")
    expect(len(set(found)) == len(found), f"each {split} image once; got indices {sorted(found)}")
    return found


def _check_batch(expect: Expect, batch: Mapping[str, Any], where: str) -> None:
    unknown = sorted(batch.keys() - Batch.__annotations__.keys())
    expect(not unknown, f"entries of `kpose.structures.Batch` {where}; got {unknown}")
    expect("index" in batch, f"an `index` {where}")
    size = len(batch["index"])
    expect("image" in batch or "features" in batch, f"an `image` or `features` {where}")
    if "image" in batch:
        _check_image(expect, batch["image"], size, where)
    if "mask" in batch:
        mask = batch["mask"]
        expect(mask.dtype == torch.bool and len(mask) == size, f"boolean masks, one for each image, {where}")
        same = "image" not in batch or mask.shape[-2:] == batch["image"].shape[-2:]
        expect(same, f"masks of the size of the images {where}; got {tuple(mask.shape)}")
    if "camera" in batch:
        expect_camera(expect, batch["camera"], size, where)
    if "parts" in batch:
        hidden = batch["parts"][~batch["parts_visible"]]
        expect(bool((hidden == 0).all()), f"parts that are zero where they are not visible {where}")
    if "flipped" in batch:
        expect(batch["flipped"].shape == (size,), f"a `flipped` for each image {where}")


def _check_image(expect: Expect, image: Tensor, size: int, where: str) -> None:
    shape = tuple(image.shape)
    expect(len(shape) == 4 and shape[:2] == (size, 3), f"images ({size}, 3, H, W) {where}; got {shape}")
    expect(image.dtype == torch.float32, f"images in float32 {where}; got {image.dtype}")
    expect(bool((image >= 0).all() & (image <= 1).all()), f"images in [0, 1] {where}")
