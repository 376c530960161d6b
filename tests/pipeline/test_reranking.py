import pytest
import pytorch_lightning as pl
import torch
from pipeline.small import BATCH, KEYPOINT, QUATERNION, QUIET, birds, files, pipeline

import kpose.pipeline.run as stages
from kpose.backbones import TinyBackbone
from kpose.data import FoldDataModule, SyntheticBirdsDataModule
from kpose.heads import QuaternionHead
from kpose.pipeline import RerankSettings
from kpose.reconstruction import CameraMultiplex
from kpose.tasks import PoseEstimator

pytestmark = QUIET

ALL = {"heads": {"quaternion": QUATERNION}, "rerank": RerankSettings("quaternion", weight=1.0)}


class Kill(RuntimeError):
    pass


def table(path, images=24):
    found = CameraMultiplex(torch.arange(images))
    found.load(path)
    return found


def test_a_vote_changes_the_table_and_survives_a_kill(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "count_votes", lambda *args, **settings: (_ for _ in ()).throw(Kill))
        with pytest.raises(Kill):
            pipeline(tmp_path / "out", tmp_path, **ALL).run()
    before = files(tmp_path / "out")
    assert len([path for path in before if path.parts[0] == "rerank" and path.name == "last.ckpt"]) == 2
    metrics = pipeline(tmp_path / "out", tmp_path, **ALL).run()
    after = files(tmp_path / "out")
    assert {path: after[path] for path in before} == before
    (old,) = (tmp_path / "out" / "choice").glob("*/cameras.safetensors")
    (new,) = (tmp_path / "out" / "rerank" / "cameras").glob("*/cameras.safetensors")
    chosen, voted = table(old), table(new)
    assert torch.equal(chosen.rotation, voted.rotation)
    assert not torch.equal(chosen.losses.argmin(-1), voted.losses.argmin(-1))
    assert (voted.losses >= 0).all()
    assert (voted.losses < 1 + 1e-5).all()
    assert metrics["chosen_cameras"]["best_deg"] != metrics["cameras"]["best_deg"]
    assert (tmp_path / "out" / "cameras.safetensors").read_bytes() == new.read_bytes()


def test_the_voter_is_one_of_the_heads(tmp_path):
    with pytest.raises(ValueError, match=r"head that reranks cameras among its heads \['keypoint'\]; got 'svd'"):
        pipeline(tmp_path / "out", tmp_path, heads={"keypoint": KEYPOINT}, rerank=RerankSettings("svd")).run()
    assert files(tmp_path / "out") == {}
    for wrong in ({"rounds": 0}, {"folds": 1}, {"weight": 1.5}):
        with pytest.raises(ValueError, match="RerankSettings needs"):
            RerankSettings("svd", **wrong)


def test_a_fold_is_never_trained_on(tmp_path):
    inner = SyntheticBirdsDataModule(
        **{**birds(None)["init_args"], "cache_dir": tmp_path, "num_train": 10, "batch_size": 2}
    )
    folds = [FoldDataModule(inner, fold=fold, folds=3) for fold in range(3)]
    folds[0].prepare_data()
    inner.setup("fit")
    seen = [set(torch.cat([batch["index"] for batch in data.train_dataloader()]).tolist()) for data in folds]
    assert [len(indices) for indices in seen] == [6, 6, 6]  # whole batches only
    for fold, indices in enumerate(seen):
        assert not indices & set(inner.dataset("train").indices[fold::3].tolist())
    assert folds[0].image_size == inner.image_size
    with pytest.raises(ValueError, match="a fold from 0 to 1; got 2"):
        FoldDataModule(inner, fold=2)


def test_birds_of_a_fold_are_augmented_like_all(tmp_path):
    inner = SyntheticBirdsDataModule(**{**birds(None)["init_args"], "cache_dir": tmp_path})
    asked = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inner, "augment", lambda batch, *, seed: asked.append(seed) or batch)
        data = FoldDataModule(inner, fold=1)
        settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = pl.Trainer(max_epochs=1, accelerator="cpu", limit_val_batches=0, **settings)
        trainer.fit(PoseEstimator(TinyBackbone(width=4), QuaternionHead), data)
    assert len(asked) == len(set(asked)) == 12 // BATCH
