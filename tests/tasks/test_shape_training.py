from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from reconstruction.scenes import birds, camera_table, items, small_reconstructor
from reconstruction.training import QUIET, Birds, Data, task, tensors, trainer
from torch.utils.data import DataLoader

from kpose.backbones import TinyBackbone
from kpose.data._transforms import flip_batch
from kpose.losses import PixelDistance
from kpose.tasks import ShapeTraining
from kpose.templates import bird

pytestmark = QUIET


def expect_equal(first, second):
    first, second = tensors(first), tensors(second)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_overfitting_four_birds(tmp_path):
    model = task(optimizer=partial(torch.optim.Adam, lr=3e-4), camera_lr=0.02)
    history = []

    class History(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            history.append({name: float(value) for name, value in trainer.callback_metrics.items()})

    run = trainer(tmp_path, max_epochs=20, callbacks=[History()])
    run.fit(model, Data(batch_size=4))
    assert history[-1]["train/loss"] < 0.5 * history[0]["train/loss"]
    assert history[-1]["train/camera_loss"] < 0.7 * history[0]["train/camera_loss"]
    assert history[-1]["train/iou"] > 0.9 > history[0]["train/iou"]
    assert history[-1]["train/best_deg"] < 25
    names = {"loss", "mask", "appearance", "deformation", "laplacian", "iou", "iou_soft", "best_deg", "camera_loss"}
    assert names <= {name.removeprefix("train/") for name in history[0]}
    template = bird()
    with torch.no_grad():
        vertices = model.eval()(birds()["image"]).vertices
    assert torch.equal(vertices[:, template.mirror] * torch.tensor([-1.0, 1, 1]), vertices)
    assert (vertices - template.vertices).abs().max() > 0.01
    assert model.table.scored.all()
    assert model.camera_optimizer.residual.abs().amin((0, 1)).max() > 0


def test_the_backbone_is_frozen_unless_asked(tmp_path):
    model = task()
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    trainer(tmp_path).fit(model, Data())
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.state_dict().items())
    model = task(train_backbone=True, distance=None)
    before = {name: value.clone() for name, value in model.named_parameters()}
    trainer(tmp_path).fit(model, Data())
    for name, value in model.named_parameters():
        assert torch.equal(value, before[name]) == name.startswith("objective."), name
    with pytest.raises(ValueError, match="needs a backbone that is not frozen to train it"):
        ShapeTraining(TinyBackbone(width=8).freeze(), train_backbone=True)


def test_rows_outside_of_the_batch_do_not_move(tmp_path):
    model = task(camera_lr=0.1)
    trainer(tmp_path, limit_train_batches=1).fit(model, Data(batch_size=2))
    assert model.camera_optimizer.residual[:2].abs().amin() >= 0
    assert model.camera_optimizer.residual[:2].abs().sum() > 0
    assert torch.equal(model.camera_optimizer.residual[2:], torch.zeros_like(model.camera_optimizer.residual[2:]))
    assert model.table.scored.tolist() == [True, True, False, False]


def test_accumulation_steps_with_the_mean_of_all_batches(tmp_path):
    """Two batches of two give the network's step of one batch of four; cameras do not differ either."""
    whole, parts = (task(optimizer=partial(torch.optim.SGD, lr=1e-2), accumulate=n) for n in (1, 2))
    trainer(tmp_path).fit(whole, Data(batch_size=4))
    run = trainer(tmp_path)
    run.fit(parts, Data(batch_size=2))
    assert run.global_step == 1
    for (name, first), second in zip(whole.named_parameters(), parts.parameters(), strict=True):
        assert torch.allclose(first, second, atol=1e-6), name
    assert torch.allclose(whole.camera_optimizer.residual, parts.camera_optimizer.residual, atol=1e-6)


def test_an_unfinished_accumulation_is_stepped_at_the_end_of_the_epoch(tmp_path):
    run = trainer(tmp_path, max_epochs=2)
    run.fit(task(accumulate=3), Data(batch_size=1))
    assert run.global_step == 4


def test_clipping_bounds_the_step(tmp_path):
    steps = {}
    for clip in (None, 1e-3):
        model = task(optimizer=partial(torch.optim.SGD, lr=1.0), clip_norm=clip)
        before = [p.detach().clone() for p in model.parameters()]
        trainer(tmp_path, limit_train_batches=1).fit(model, Data(batch_size=4))
        moved = [(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)]
        steps[clip] = torch.cat(moved).norm().item()
        steps["cameras", clip] = model.camera_optimizer.residual.clone()
    assert steps[1e-3] == pytest.approx(1e-3, rel=1e-3)
    assert steps[None] > 1e-2
    assert torch.equal(steps["cameras", None], steps["cameras", 1e-3])


def test_bfloat16(tmp_path):
    exact, half = task(distance=None), task(distance=None)
    trainer(tmp_path).fit(exact, Data(batch_size=4))
    run = trainer(tmp_path, precision="bf16-mixed")
    run.fit(half, Data(batch_size=4))
    assert run.callback_metrics["train/loss"].isfinite()
    for name, value in tensors(half).items():
        assert value.dtype == tensors(exact)[name].dtype, name
    assert (half.camera_optimizer.residual - exact.camera_optimizer.residual).abs().median() < 1e-4


def test_schedule_advances_with_the_steps_of_the_network(tmp_path):
    model = task(lr_scheduler=torch.optim.lr_scheduler.CosineAnnealingLR, accumulate=2)
    run = trainer(tmp_path, max_epochs=2)
    run.fit(model, Data(batch_size=1))
    assert run.lr_scheduler_configs[0].scheduler.T_max == 4
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_resumed_run_equals_one_that_was_not_interrupted(tmp_path):
    def fit(model, **resume):
        callback = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1, auto_insert_metric_name=False)
        run = trainer(tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[callback])
        run.fit(model, Data(shuffle=True), **resume)

    settings = {"camera_lr": 0.05, "lr_scheduler": torch.optim.lr_scheduler.CosineAnnealingLR, "distance": None}
    whole = task(**settings)
    fit(whole)
    resumed = task(seed=9, **settings)
    fit(resumed, ckpt_path=tmp_path / "0.ckpt", weights_only=True)
    expect_equal(whole, resumed)


def test_checkpoint_holds_plain_values_and_brings_the_cameras(tmp_path):
    model = task()
    run = trainer(tmp_path)
    run.fit(model, Data())
    model.camera_optimizer.prune(2)
    run.save_checkpoint(tmp_path / "model.ckpt")
    torch.load(tmp_path / "model.ckpt", weights_only=True)
    again = ShapeTraining.load_from_checkpoint(
        tmp_path / "model.ckpt",
        backbone=TinyBackbone(width=8),
        reconstructor=small_reconstructor,
        distance=PixelDistance(),
        weights_only=True,
    )
    expect_equal(model, again)
    assert again.table.num_cameras == 2


def test_cameras_are_made_for_the_data_and_read_from_a_file(tmp_path):
    cameras = tmp_path / "cameras.safetensors"
    batch = birds()
    search = camera_table(batch)
    search.names = Birds(batch).names
    search.set_score(search.rows(batch["index"]), torch.rand(4, 4))
    search.save(cameras)
    model = task(own_cameras=False, cameras=cameras, camera_lr=0.0)
    trainer(tmp_path).fit(model, Data())
    assert torch.allclose(model.table.rotation, search.rotation)
    assert model.table.names == Birds(batch).names


def test_cameras_of_nothing_are_refused(tmp_path):
    with pytest.raises(TypeError, match="ShapeTraining needs a data module with a method `dataset`"):
        trainer(tmp_path).fit(task(own_cameras=False), DataLoader(items(birds()), batch_size=2))
    with pytest.raises(RuntimeError, match="Give a table, or fit with a data module"):
        _ = task(own_cameras=False).table


def test_mirrored_images_are_seen_by_mirrored_cameras():
    """The same birds, mirrored: their cameras fit as well as before, and row by row the gradients are the same."""
    model, batch = task(), birds()
    torch.nn.init.zeros_(model.reconstructor.shape.output.weight)
    mirrored = flip_batch(batch, torch.tensor([True, True, False, True]))
    rows = model.table.rows(batch["index"])
    with torch.no_grad():
        model.camera_optimizer.residual += 0.2 * torch.randn_like(model.camera_optimizer.residual)
    gradients, losses = [], []
    for seen in (batch, mirrored):
        residuals = model.camera_optimizer.residuals(rows)
        comparison = model.compare(seen, rows, residuals)
        gradients.append(torch.autograd.grad(comparison.mask_loss.sum(), residuals)[0])
        losses.append(comparison.mask_loss.detach())
    assert torch.allclose(*losses, rtol=1e-3)
    assert torch.allclose(*gradients, rtol=1e-2, atol=1e-4)
    assert gradients[0].abs().max() > 1e-2


def test_features_computed_beforehand_replace_the_image():
    model, batch = task().eval(), birds()
    with torch.no_grad():
        expected = model.predict_step(batch, 0)
        batch["features"] = model.backbone(batch["image"])
        found = model.predict_step({"features": batch["features"]}, 0)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_no_batch_is_no_accumulation():
    with pytest.raises(ValueError, match="needs accumulate from 1; got 0"):
        task(accumulate=0)


def test_missing_entry_is_named(tmp_path):
    batch = birds()
    del batch["crop"]
    with pytest.raises(KeyError, match=r"needs batch entries .*; this batch has .* gives \['crop'\]"):
        task().training_step(batch, 0)


def test_renderings_may_be_smaller_than_the_images():
    batch = birds()
    small = {**batch, "features": None}
    for size in (birds()["image"].shape[-1], 16):
        model = task(render_size=size)
        rows = model.table.rows(batch["index"])
        with torch.no_grad():
            comparison = model.compare(batch, rows)
            assert comparison.silhouettes.shape[-2:] == comparison.image.shape[-2:] == (size, size)
            small["features"] = model.backbone(batch["image"])
            small["image"], small["mask"] = comparison.image, comparison.mask
            again = model.compare(small, rows)
        assert torch.allclose(again.mask_loss, comparison.mask_loss)
        assert torch.allclose(again.appearance_loss, comparison.appearance_loss)
    whole = torch.nn.functional.interpolate(batch["image"], (16, 16), mode="area")
    assert torch.equal(comparison.image, whole)
    with pytest.raises(ValueError, match="positive render_size; got 0"):
        task(render_size=0)


def test_cameras_may_keep_the_ranking_that_they_came_with(tmp_path):
    for rescore in (True, False):
        model = task(rescore=rescore, camera_lr=0.1)
        before = torch.rand(4, model.table.num_cameras)
        model.table.set_score(torch.arange(4), before)
        trainer(tmp_path).fit(model, Data())
        assert torch.equal(model.table.score, before) != rescore
        assert model.camera_optimizer.residual.abs().sum() > 0


def test_feature_dropout_thins_features_in_training_only():
    model, batch = task(feature_dropout=0.5), birds()
    with torch.no_grad():
        model.train()
        thinned = [model(batch["image"]).texture for _ in range(2)]
        model.eval()
        still = [model(batch["image"]).texture for _ in range(2)]
    assert not torch.equal(*thinned)
    assert torch.equal(*still)
