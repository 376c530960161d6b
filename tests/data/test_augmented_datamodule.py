from types import MappingProxyType

import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn
from torch.utils.data import Dataset

from kpose.data import AugmentedDataModule


class Numbers(Dataset):
    """Images of one number each."""

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"image": torch.full((3, 2, 2), float(index)), "index": torch.tensor(index)}


class Noise(nn.Module):
    def forward(self, batch):
        return {**batch, "image": batch["image"] + torch.rand(len(batch["image"]), 1, 1, 1)}


class NumbersDataModule(AugmentedDataModule):
    split_sizes = MappingProxyType({"train": 7, "val": 3, "test": 2})

    def dataset(self, split, *, train=False):
        return Numbers(self.split_sizes[split])

    def new_augmentation(self):
        return Noise()


@pytest.fixture
def data():
    torch.manual_seed(0)
    module = NumbersDataModule(image_size=2, batch_size=3)
    module.setup("fit")
    return module


def indices(loader):
    return torch.cat([batch["index"] for batch in loader]).tolist()


def test_loaders_go_through_their_splits(data):
    assert len(set(indices(data.train_dataloader()))) == 6  # whole batches, in random order
    assert indices(data.val_dataloader()) == [0, 1, 2]
    assert indices(data.test_dataloader()) == indices(data.predict_dataloader()) == [0, 1]
    data.test_split = "val"
    assert indices(data.test_dataloader()) == [0, 1, 2]
    data.batch_size = 8
    assert sorted(indices(data.train_dataloader())) == list(range(7))  # less than a batch is not dropped


def test_the_order_depends_on_the_seed(data):
    first = indices(data.train_dataloader())
    assert first == indices(data.train_dataloader())
    torch.manual_seed(1)
    data.setup("fit")
    assert first != indices(data.train_dataloader())


def test_augmentation_is_decided_by_its_seed(data):
    batch = next(iter(data.train_dataloader()))
    state = torch.get_rng_state()
    first, again, other = (data.augment(batch, seed=seed)["image"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_augmentation_leaves_the_generators_of_accelerators_alone(data, monkeypatch):
    batch, seeded = next(iter(data.train_dataloader())), []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    torch.manual_seed(0)
    assert seeded == [0]
    data.augment(batch, seed=1)
    assert seeded == [0]


def test_only_training_batches_are_augmented(data):
    batch = next(iter(data.val_dataloader()))
    assert data.on_after_batch_transfer(batch, 0) is batch
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert data.on_after_batch_transfer(batch, 0) is batch
    data.trainer.training = True
    assert not torch.equal(data.on_after_batch_transfer(batch, 0)["image"], batch["image"])


def test_it_describes_itself_in_a_line(data):
    assert repr(data) == str(data) == "NumbersDataModule(7 train, 3 val, 2 test; 2 px, batches of 3)"
    data.split_sizes = {}
    assert repr(data) == "NumbersDataModule(not read yet; 2 px, batches of 3)"


@pytest.mark.parametrize("wrong", [{"image_size": 0}, {"image_size": 5000}, {"batch_size": 0}, {"num_workers": -1}])
def test_wrong_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"NumbersDataModule needs (a positive batch_size|image_size from 1)"):
        NumbersDataModule(**{"image_size": 2, "batch_size": 3, **wrong})
