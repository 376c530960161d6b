import pytest
import pytorch_lightning as pl
import torch
from pipeline.small import BATCH, QUIET, birds

from kpose.backbones import TinyBackbone
from kpose.heads import QuaternionHead
from kpose.pipeline.data import check_data, without_fold
from kpose.tasks import PoseEstimator

pytestmark = QUIET


def test_a_method_dataset_is_needed():
    with pytest.raises(TypeError, match="a method `dataset`; got LightningDataModule"):
        check_data(pl.LightningDataModule())


def test_a_fold_is_never_trained_on(cache, tmp_path):
    inner = birds(cache, num_train=10, batch_size=2)
    folds = [without_fold(inner, fold, 3) for fold in range(3)]
    inner.prepare_data()
    seen = [set(torch.cat([batch["index"] for batch in data.train_dataloader()]).tolist()) for data in folds]
    assert [len(indices) for indices in seen] == [6, 6, 6]  # whole batches only
    for fold, indices in enumerate(seen):
        assert not indices & set(inner.dataset("train").indices[fold::3].tolist())
    assert len(torch.cat([batch["index"] for batch in inner.train_dataloader()])) == 10


def test_birds_of_a_fold_are_augmented_like_all(cache, tmp_path):
    inner = birds(cache)
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner, "augment", lambda batch, *, seed: asked.append(seed) or batch)
        data = without_fold(inner, 1, 2)
        settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", limit_val_batches=0, **settings)
        trainer.fit(PoseEstimator(TinyBackbone(width=4), QuaternionHead), data)
    assert len(asked) == len(set(asked)) == 12 // BATCH
