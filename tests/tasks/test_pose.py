from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from reconstruction.scenes import GRID, birds
from reconstruction.training import Data
from torch.utils.data import DataLoader

from kpose.backbones import TinyBackbone
from kpose.callbacks import LogOverlays
from kpose.geometry import box_to_crop, flip_camera, project, undo_crop
from kpose.heads import GramSchmidtHead, KeypointHead, QuaternionHead
from kpose.inference import Predictor
from kpose.reconstruction import CameraTable, MeshReconstructor, TextureHead
from kpose.structures import Camera, Features, Mesh, PosePrediction
from kpose.tasks import PoseEstimator, ShapeTraining
from kpose.testing import example_batch

small_keypoint_head = partial(KeypointHead, num_keypoints=12, width=8)


def rows(count):
    batch = example_batch(count)
    fields = {name: value for name, value in batch.items() if name != "camera"}
    cameras = [type(batch["camera"])(*parts) for parts in zip(*batch["camera"], strict=True)]
    return [
        {"camera": cameras[row], **{name: value[row] for name, value in fields.items()}} for row in range(count)
    ]


def loader(count=6, shuffle=False):
    return DataLoader(rows(count), batch_size=2, shuffle=shuffle)


def task(head=QuaternionHead, **settings):
    return PoseEstimator(TinyBackbone(width=8), head=head, **settings)


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


pytestmark = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    pytest.mark.filterwarnings("ignore:Found .* in eval mode at the start of training"),  # frozen, as intended
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated"),
]


@pytest.mark.parametrize("head", [QuaternionHead, small_keypoint_head])
def test_logged_names(head, tmp_path):
    run = trainer(tmp_path)
    run.fit(task(head), loader(), loader(4))
    names = set(run.callback_metrics)
    assert {"train/loss", "val/loss", "val/angle_deg", "val/angle_acc30", "val/iou", "val/azimuth_ws_deg"} <= names
    term = "heatmap" if head is small_keypoint_head else "rotation"
    assert f"train/{term}" in names
    run.test(task(head), loader(4), verbose=False)
    assert {"test/iou", "test/iou_soft"} <= set(run.callback_metrics)


@pytest.mark.parametrize("precision", ["bf16-true", "16-true", "64-true"])
@pytest.mark.parametrize("head", [GramSchmidtHead, small_keypoint_head])
def test_true_precisions_train_draw_score_and_predict(head, precision, tmp_path):
    data = [{**row, "parts": torch.zeros(2, 2), "parts_visible": torch.tensor([True, False])} for row in rows(4)]
    batches = DataLoader(data, batch_size=2)
    callbacks = [ModelCheckpoint(dirpath=tmp_path, save_last=True), LogOverlays(num_images=1)]
    logger = TensorBoardLogger(tmp_path)
    run = trainer(tmp_path, precision=precision, logger=logger, enable_checkpointing=True, callbacks=callbacks)
    model = task(head)
    run.fit(model, batches, batches)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    [scores] = run.test(model, batches, verbose=False)
    assert {"test/iou", "test/pck_transfer"} <= scores.keys()
    first = run.predict(model, batches)[0]
    assert first.camera.scale.dtype == (torch.float64 if precision == "64-true" else torch.float32)
    saved = Predictor.from_checkpoint(tmp_path / "last.ckpt", image_size=64)
    for predictor in (Predictor(model, image_size=64), saved):
        [found] = predictor(torch.rand(3, 48, 64), box=(8, 8, 40, 40))
        assert found.camera.rotation.dtype == torch.float32
        assert found.colored_mesh.texture.isfinite().all()


def test_losses_of_an_epoch_are_averaged_in_single_precision(monkeypatch):
    logged = {}
    model = task().bfloat16()
    monkeypatch.setattr(torch, "get_default_dtype", lambda: torch.bfloat16)  # as Lightning has it in bf16-true
    monkeypatch.setattr(model, "log_dict", lambda values, **_: logged.update(values))
    for count in (2, 3):
        model._step(example_batch(count), "val")
    model.on_validation_epoch_end()
    assert logged["val/loss"].dtype == torch.float32


def test_missing_entry_is_named():
    batch = example_batch(2)
    del batch["camera"]
    with pytest.raises(
        KeyError, match=r"QuaternionHead needs batch entries \['camera'\]; this batch has \['image'"
    ):
        task().training_step(batch, 0)


def test_scores_are_left_out_where_a_batch_has_none(tmp_path):
    data = [{name: value for name, value in row.items() if name != "mask"} for row in rows(4)]
    run = trainer(tmp_path)
    run.validate(task(), DataLoader(data, batch_size=2), verbose=False)
    assert "val/angle_deg" in run.callback_metrics
    assert "val/iou" not in run.callback_metrics


def test_features_computed_beforehand_replace_the_image():
    model = task().eval()
    batch = example_batch(2)
    with torch.no_grad():
        expected = model.predict_step(batch, 0)
        batch["features"] = model.network.backbone(batch.pop("image"))
        given = model.predict_step(batch, 0)
    assert torch.equal(expected.camera.rotation, given.camera.rotation)


def test_true_camera_scores_best():
    model, batch = task(), example_batch(2)
    model._score(PosePrediction(batch["camera"]), model.network.vertices.expand(2, -1, -1), batch, "val")
    assert model.scores["val"]["angle"].compute()["angle_deg"] < 0.1


def test_annotated_parts_are_carried_from_image_to_image():
    model, batch = task(), example_batch(3)
    points = model.network.vertices[[5, 100, 400]].expand(3, -1, -1)
    batch |= {"parts": project(points, batch["camera"]), "parts_visible": torch.ones(3, 3).bool()}
    batch["mask"] = torch.zeros(3, 64, 64, dtype=torch.bool)
    batch["mask"][:, 10:42, 8:24] = True  # a box of 32 by 16 pixels: its longer side is half the crop
    model._score(PosePrediction(batch["camera"]), model.network.vertices.expand(3, -1, -1), batch, "test")
    metric = model.scores["test"]["pck_transfer"]
    assert metric.records[0].view(3, -1)[:, 1].tolist() == [1, 1, 1]
    assert metric.compute() > 0.2
    model._score(PosePrediction(batch["camera"]), model.network.vertices.expand(3, -1, -1), batch, "val")
    assert not model.scores["val"]["pck_transfer"].update_called


def test_overlap_is_split_into_rotation_and_placement():
    model, batch = task(), example_batch(3)
    true = batch["camera"]
    mesh = Mesh(model.network.vertices, model.network.faces)
    batch["mask"] = model.renderer.silhouette(mesh, true, (64, 64)) > 0.5

    def overlaps(camera):
        model._score(PosePrediction(camera), model.network.vertices.expand(3, -1, -1), batch, "test")
        names = ("iou", "iou_true_rotation", "iou_true_placement", "iou_true_camera")
        values = [float(model.scores["test"][name].compute()) for name in names]
        model.scores["test"].apply(lambda metric: metric.reset() if hasattr(metric, "reset") else None)
        return values

    moved, turned = true._replace(translation=true.translation + 0.3), true._replace(rotation=true.rotation.flip(0))
    whole, rotated, placed, both = overlaps(moved)
    assert (placed, both) == (1, 1)
    assert whole == rotated < 0.9
    whole, rotated, placed, both = overlaps(turned)
    assert (rotated, both) == (1, 1)
    assert whole == placed < 0.9


def test_frozen_backbone_is_not_trained(tmp_path):
    backbone = TinyBackbone(width=8).freeze()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    model = PoseEstimator(backbone, head=QuaternionHead)
    run = trainer(tmp_path)
    run.fit(model, loader(), loader(2))
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
    trained = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.network.head.parameters()}


def test_a_backbone_learns_at_its_own_rate(tmp_path):
    model = task(lr_scheduler=None, optimizer=partial(torch.optim.AdamW, lr=1e-2), backbone_lr=1e-4)
    run = trainer(tmp_path)
    run.fit(model, loader(), loader(2))
    rates = {p: group["lr"] for group in run.optimizers[0].param_groups for p in group["params"]}
    own = dict.fromkeys(model.network.backbone.parameters(), 1e-4)
    assert rates == own | dict.fromkeys(model.network.head.parameters(), 1e-2)


def test_a_frozen_backbone_has_no_rate():
    with pytest.raises(ValueError, match=r"got a frozen one.*frozen=False"):
        PoseEstimator(TinyBackbone(width=8).freeze(), head=QuaternionHead, backbone_lr=1e-4)


def test_schedule_spans_the_whole_run(tmp_path):
    run = trainer(tmp_path, max_epochs=2)
    run.fit(task(), loader(), loader(2))
    assert run.lr_scheduler_configs[0].scheduler.T_max == 6
    assert run.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    run.fit(task(lr_scheduler=None), loader(), loader(2))
    assert run.lr_scheduler_configs == []


def test_notebook_checkpoint_holds_plain_values_and_reloads(tmp_path):
    model = task(small_keypoint_head)
    run = trainer(tmp_path)
    run.fit(model, loader(), loader(2))
    run.save_checkpoint(tmp_path / "model.ckpt")
    torch.load(tmp_path / "model.ckpt", weights_only=True)
    again = PoseEstimator.load_from_checkpoint(
        tmp_path / "model.ckpt", backbone=TinyBackbone(width=8), head=small_keypoint_head, weights_only=True
    )
    image = example_batch(2)["image"]
    with torch.no_grad():
        first, second = model.eval()(image), again.eval()(image)
    assert torch.equal(first.heatmaps, second.heatmaps)
    assert torch.equal(first.camera.rotation, second.camera.rotation)


@pytest.mark.parametrize("head", [QuaternionHead, small_keypoint_head])
def test_resumed_run_equals_one_that_was_not_interrupted(head, tmp_path):
    pl.seed_everything(3, verbose=False)

    def saving_trainer():
        callback = ModelCheckpoint(
            tmp_path, "{epoch}", save_top_k=-1, every_n_epochs=1, auto_insert_metric_name=False
        )
        return trainer(tmp_path, max_epochs=2, enable_checkpointing=True, callbacks=[callback])

    whole = task(head)
    saving_trainer().fit(whole, loader(shuffle=True), loader(4))
    torch.manual_seed(99)
    resumed = task(head)
    checkpoint = tmp_path / "0.ckpt"
    saving_trainer().fit(resumed, loader(shuffle=True), loader(4), ckpt_path=checkpoint, weights_only=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_feature_dropout_thins_features_in_training_only():
    torch.manual_seed(0)
    task = PoseEstimator(TinyBackbone(width=8), QuaternionHead, feature_dropout=0.5).eval()
    batch = {"features": task.network.backbone(torch.rand(2, 3, 32, 32))}
    still = [task.predict_step(batch, 0).camera.rotation for _ in range(2)]
    assert torch.equal(*still)
    task.feature_dropout.train()
    thinned = [task.predict_step(batch, 0).camera.rotation for _ in range(2)]
    assert not torch.equal(*thinned)


def thin_reconstructor(spec, template):
    return MeshReconstructor(spec, template, texture=partial(TextureHead, height=16, width=4))


def shape_file(folder, backbone):
    """Write what stage 2 leaves, with a mean shape that is half as large as the template."""
    trained = ShapeTraining(backbone, reconstructor=thin_reconstructor, cameras=CameraTable(torch.arange(4)))
    with torch.no_grad():
        trained.reconstructor.mean_shape.free *= 0.5
    torch.save({"state_dict": trained.state_dict()}, folder / "reconstruction.ckpt")
    return folder / "reconstruction.ckpt"


@pytest.mark.parametrize("head", [QuaternionHead, small_keypoint_head])
def test_poses_are_learned_of_the_shapes_that_stage_2_predicts(head, tmp_path):
    torch.manual_seed(1)
    path = shape_file(tmp_path, TinyBackbone(width=8))
    model = task(head, reconstructor=thin_reconstructor, shape_checkpoint=path)
    run = trainer(tmp_path)
    run.fit(model, loader(), loader(2))
    expected = torch.load(path, weights_only=True)["state_dict"]
    state = model.network.state_dict()
    learned = [name for name in state if name.startswith(("backbone.", "reconstructor."))]
    assert all(torch.equal(state[name], expected[name]) for name in learned)
    trained = {id(p) for group in run.optimizers[0].param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.network.head.parameters()}
    assert not model.network.train().reconstructor.training
    image = example_batch(2)["image"]
    features = model.network.backbone(image)
    half = model.network.vertices / 2
    assert torch.allclose(model.network.shapes(features), half.expand(2, -1, -1), atol=0.02)
    assert torch.equal(model.network.shapes(features), model.network.reconstruct(features).vertices)
    if head is small_keypoint_head:
        points = model.eval()(image).points
        assert torch.allclose(points, half[model.network.head.keypoint_indices].expand(2, -1, -1), atol=0.02)


def test_silhouettes_are_those_of_the_predicted_shape(tmp_path):
    batch = example_batch(2)
    path = shape_file(tmp_path, TinyBackbone(width=8))
    model = task(reconstructor=thin_reconstructor, shape_checkpoint=path)
    trainer(tmp_path).fit(model, loader(2), loader(2))
    half = Mesh(model.network.vertices / 2, model.network.faces)
    batch["mask"] = model.renderer.silhouette(half, batch["camera"], (64, 64)) > 0.5
    for vertices, least, most in ((half.vertices, 0.999, 1), (model.network.vertices, 0, 0.5)):
        model._score(PosePrediction(batch["camera"]), vertices.expand(2, -1, -1), batch, "val")
        assert least <= model.scores["val"]["iou"].compute() <= most
        model.scores["val"]["iou"].reset()


def test_a_reconstruction_has_to_fit(tmp_path):
    path = shape_file(tmp_path, TinyBackbone(width=8))
    with pytest.raises(ValueError, match="needs a reconstructor for the weights of"):
        task(shape_checkpoint=path)
    for settings, error, message in (
        ({"shape_checkpoint": tmp_path / "no.ckpt"}, FileNotFoundError, "There is no checkpoint"),
        ({"reconstructor": MeshReconstructor, "shape_checkpoint": path}, ValueError, "Configure both stages alike"),
    ):
        model = task(**{"reconstructor": thin_reconstructor, **settings})
        with pytest.raises(error, match=message):
            trainer(tmp_path).fit(model, loader(), loader(2))
    with pytest.raises(ValueError, match="PoseNetwork needs a reconstructor to predict shapes"):
        task().network.reconstruct(Features((torch.zeros(1, 8, 2, 2),)))


class LabeledByTable(Data):
    """Training images in other crops, some mirrored, with wrong cameras of their own; held-out ones as they are."""

    def __init__(self, *, camera=True):
        super().__init__(batch_size=4)
        self.camera = camera

    def moved(self):
        batch = birds()
        batch["crop"] = box_to_crop(torch.tensor([2.0, -1.0, 26.0, 23.0]).expand(4, 4))
        batch["flipped"] = torch.tensor([False, True, False, True])
        batch["camera"] = flip_camera(batch["camera"])
        return self.unlabeled(batch)

    def unlabeled(self, batch):
        return batch if self.camera else {name: value for name, value in batch.items() if name != "camera"}

    def train_dataloader(self):
        return DataLoader([self.moved()], batch_size=None)

    def val_dataloader(self):
        return DataLoader([self.unlabeled(birds())], batch_size=None)

    test_dataloader = val_dataloader


def camera_file(folder):
    """Write a table with the true cameras of the birds, all but one of each image turned away."""
    batch = birds()
    images = Data().dataset("train")
    table = CameraTable(images.indices, names=images.names, grid=GRID)
    rows = table.rows(batch["index"])
    cameras = Camera(*(part[:, None].repeat(1, 4, *[1] * (part.dim() - 1)) for part in batch["camera"]))
    rotation = cameras.rotation.clone()
    rotation[:, :3] = rotation[:, :3].flip(-1) * torch.tensor([1.0, 1.0, -1.0])
    losses = torch.tensor([0.5, 0.4, 0.3, 0.2]).expand(4, 4)
    table.set_reference_crop(rows, batch["crop"])
    table.set_cameras(rows, cameras._replace(rotation=rotation), losses)
    table.save(folder / "cameras.safetensors")
    return folder / "cameras.safetensors"


class Seen:
    """Keep the cameras that the head is trained on and those that it is compared with."""

    def __init__(self, model):
        self.cameras = {"train": [], "val": []}
        losses = model.network.head.losses

        def keep(prediction, batch):
            self.cameras["train" if model.training else "val"].append(batch["camera"])
            return losses(prediction, batch)

        model.network.head.losses = keep


def test_the_best_cameras_of_a_table_label_the_training_images(tmp_path):
    model = task(cameras=camera_file(tmp_path))
    seen = Seen(model)
    data = LabeledByTable()
    run = trainer(tmp_path, num_sanity_val_steps=0)
    run.fit(model, data)
    true, moved = birds(), data.moved()
    (label,) = seen.cameras["train"]
    # The same vertices in photo pixels, whether mapped by the true camera and crop or by the label and its crop.
    points = torch.randn(4, 10, 3)
    expected = undo_crop(project(points, true["camera"]), true["crop"])
    flipped = moved["flipped"][:, None, None]
    found = project(torch.where(flipped, points * torch.tensor([-1.0, 1.0, 1.0]), points), label)
    found = torch.where(flipped, found * torch.tensor([-1.0, 1.0]), found)
    torch.testing.assert_close(undo_crop(found, moved["crop"]), expected, atol=1e-3, rtol=1e-4)
    (compared,) = seen.cameras["val"]
    assert torch.equal(compared.rotation, true["camera"].rotation)
    assert "val/angle_deg" in run.callback_metrics
    assert not any("table" in name or "multiplex" in name for name in model.state_dict())


@pytest.mark.parametrize("head", [QuaternionHead, small_keypoint_head])
def test_images_without_cameras_train_by_a_table_and_are_scored_by_silhouettes(head, tmp_path):
    model = task(head, cameras=camera_file(tmp_path))
    data = LabeledByTable(camera=False)
    run = trainer(tmp_path)
    run.fit(model, data)
    assert "train/loss" in run.callback_metrics
    assert "val/iou" in run.callback_metrics
    assert "val/angle_deg" not in run.callback_metrics
    (scores,) = run.test(model, data, verbose=False)
    assert scores.keys() == {"test/iou", "test/iou_soft"}


def test_a_table_needs_a_data_module(tmp_path):
    model = task(cameras=camera_file(tmp_path))
    with pytest.raises(TypeError, match="PoseEstimator needs a data module with a method `dataset`"):
        trainer(tmp_path).fit(model, loader(), loader(2))
