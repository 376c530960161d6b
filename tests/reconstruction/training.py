"""Training on four drawn birds: data module, task and trainer, all small."""

import pytest
import pytorch_lightning as pl
import torch
from reconstruction.scenes import birds, camera_table, items, small_reconstructor
from torch.utils.data import DataLoader

from kpose.backbones import TinyBackbone
from kpose.losses import PixelDistance
from kpose.tasks import ShapeTraining

QUIET = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),  # frozen, as intended
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]


class Birds(torch.utils.data.Dataset):
    """Items with the names that a camera table needs."""

    def __init__(self, batch):
        self.items, self.indices = items(batch), batch["index"]
        self.names = tuple(f"bird {int(i)}" for i in self.indices)

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row]


class Data(pl.LightningDataModule):
    def __init__(self, batch_size=2, shuffle=False, count=4):
        super().__init__()
        self.batch_size, self.shuffle, self.birds = batch_size, shuffle, Birds(birds(count))

    def dataset(self, split):
        assert split == "train"
        return self.birds

    def train_dataloader(self):
        return DataLoader(self.birds, batch_size=self.batch_size, shuffle=self.shuffle)


def task(seed=0, own_cameras=True, **settings):
    torch.manual_seed(seed)
    settings = {"distance": PixelDistance(), "reconstructor": small_reconstructor, **settings}
    if own_cameras:
        settings["cameras"] = camera_table(birds())
    return ShapeTraining(TinyBackbone(width=8), **settings)


def trainer(folder, **settings):
    settings = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **settings}
    return pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )


def tensors(model):
    return {name: value for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
