"""The contract of data modules, for all of ours."""

import pytest
from data.test_folder import write_pair
from fakes import write_fake_cub

from kpose.data import CUBDataModule, FolderDataModule, SyntheticBirdsDataModule
from kpose.testing import check_data_module

FEW = {"num_train": 4, "num_val": 2, "num_test": 2, "image_size": 32, "batch_size": 2}


def test_synthetic_birds():
    check_data_module(SyntheticBirdsDataModule(**FEW))


@pytest.mark.parametrize("cameras", [True, False])
def test_cub(tmp_path, cameras):
    write_fake_cub(tmp_path, cameras=cameras)
    check_data_module(CUBDataModule(tmp_path, image_size=16, batch_size=4, test_split="val"))


def test_folder(tmp_path):
    for name in ("one", "two", "three", "four"):
        write_pair(tmp_path, name)
    check_data_module(FolderDataModule(tmp_path, image_size=16, batch_size=2, val_share=0.5, test_split="val"))


class Changed:
    """Changes the batches of birds."""

    def __init__(self, change):
        self.data, self.change = SyntheticBirdsDataModule(**FEW), change

    def __getattr__(self, name):
        found = getattr(self.data, name)
        if not name.endswith("_dataloader"):
            return found
        return lambda: [self.change(dict(batch)) for batch in found()]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda batch: {**batch, "intrinsics": 1}, r"entries of .*got \['intrinsics'\]"),
        (lambda batch: {**batch, "image": 255 * batch["image"]}, r"images in \[0, 1\] in train batches"),
        (lambda batch: {**batch, "mask": batch["mask"].float()}, "boolean masks"),
        (lambda batch: {**batch, "mask": batch["mask"][:, ::2]}, "masks of the size of the images"),
        (lambda batch: {**batch, "index": 0 * batch["index"]}, "each train image once"),
        (
            lambda batch: {**batch, "camera": batch["camera"]._replace(scale=-batch["camera"].scale)},
            "positive scale",
        ),
        (lambda batch: {name: batch[name] for name in ("image", "mask")}, "an `index` in train batches"),
    ],
)
def test_broken_data_modules_are_found_out(change, rule):
    with pytest.raises(AssertionError, match=rule):
        check_data_module(Changed(change))


def test_evaluation_that_is_shuffled_is_found_out():
    class Shuffled(Changed):
        calls = 0

        def val_dataloader(self):
            self.calls += 1
            batches = list(self.data.val_dataloader())
            return [{**batch, "index": batch["index"].roll(self.calls)} for batch in batches]

    with pytest.raises(AssertionError, match="the same order of val images every time"):
        check_data_module(Shuffled(lambda batch: batch))
