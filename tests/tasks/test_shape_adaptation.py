import copy
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from reconstruction.scenes import birds, small_reconstructor
from reconstruction.training import QUIET, Data, tensors, trainer

from kpose.backbones import TinyBackbone
from kpose.geometry import mask_iou
from kpose.heads import KeypointHead, PoseHead, QuaternionHead
from kpose.metrics import angular_error
from kpose.network import PoseNetwork
from kpose.reconstruction import MultiplexObjective
from kpose.rendering import HardRenderer
from kpose.structures import Batch, Mesh, PosePrediction
from kpose.tasks import PoseEstimator, ShapeAdaptation

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:You defined a `validation_step`")]


FEW_KEYPOINTS = partial(KeypointHead, num_keypoints=8, width=8, reads_shapes=False)


class Unlabeled(Data):
    """Birds without cameras, to learn from and to score."""

    def test_dataloader(self):
        return self.train_dataloader()


def without(data, *names):
    data.birds.items = [{k: v for k, v in item.items() if k not in names} for item in data.birds.items]
    return data


def task(head=QuaternionHead, **settings):
    torch.manual_seed(0)
    settings = {
        "reconstructor": small_reconstructor,
        "optimizer": partial(torch.optim.Adam, lr=5e-3),
        "render_size": 16,
        **settings,
    }
    return ShapeAdaptation(TinyBackbone(width=8), head, **settings)


def overlap(model):
    batch, network = birds(), model.network
    with torch.no_grad():
        features = network.backbone(batch["image"])
        vertices = network.shapes(features)
        camera = network.pose(features, vertices).camera
    silhouettes = HardRenderer().silhouette(Mesh(vertices, network.faces), camera, 32)
    return mask_iou(silhouettes, batch["mask"], soft=False).mean()


class Told(PoseHead):
    """Return the cameras of the four birds, all of them a quarter too large."""

    supervision = frozenset({"camera"})

    def __init__(self, spec, template):
        super().__init__()
        camera = birds()["camera"]
        self.camera = camera._replace(scale=1.25 * camera.scale)

    def forward(self, features, vertices=None):
        return PosePrediction(self.camera)

    def losses(self, prediction, batch):
        raise AssertionError("stage 4 trains no head")


class Turned(PoseHead):
    """Return the cameras of the four birds too large, by a rotation and a size that can be learned."""

    supervision = frozenset({"camera"})

    def __init__(self, spec, template):
        super().__init__()
        self.camera = birds()["camera"]
        self.turn = torch.nn.Parameter(self.camera.rotation.clone())
        self.size = torch.nn.Parameter(1.25 * self.camera.scale)

    def forward(self, features, vertices=None):
        rotation = self.turn / self.turn.norm(dim=-1, keepdim=True)
        return PosePrediction(self.camera._replace(rotation=rotation, scale=self.size))

    def losses(self, prediction, batch):
        raise AssertionError("stage 4 asks for no labels")


def test_shapes_come_to_fit_under_the_cameras_of_the_head(tmp_path):
    slowly = partial(torch.optim.Adam, lr=1e-3)
    model = task(
        Told, objective=partial(MultiplexObjective, appearance_weight=0.0), optimizer=slowly, render_size=None
    )
    before = overlap(model)
    trainer(tmp_path, max_epochs=15).fit(model, without(Data(batch_size=4), "camera"))
    assert before < 0.7
    assert overlap(model) > before + 0.1


@pytest.mark.parametrize(("head_lr", "parts"), [(0.0, {"reconstructor"}), (1e-3, {"reconstructor", "head"})])
@pytest.mark.parametrize("head", [QuaternionHead, FEW_KEYPOINTS])
def test_nothing_else_is_trained_than_was_asked_for(head, head_lr, parts, tmp_path):
    model = task(head, head_lr=head_lr)
    start = {name: value.clone() for name, value in tensors(model.network).items()}
    trainer(tmp_path).fit(model, without(Data(batch_size=4), "camera"))
    changed = {k.split(".")[0] for k, v in tensors(model.network).items() if not torch.equal(v, start[k])}
    assert changed == parts


def test_silhouettes_give_rotations_no_gradient(tmp_path):
    model = task(Turned, head_lr=1e-2, rotation_weight=0.0)
    turn, size = model.network.head.turn.detach().clone(), model.network.head.size.detach().clone()
    trainer(tmp_path, max_epochs=3).fit(model, without(Data(batch_size=4), "camera"))
    assert torch.equal(model.network.head.turn, turn)
    assert (model.network.head.size < size).all()


def test_a_head_that_learns_is_held_to_its_rotations(tmp_path):
    turned = {}
    for weight in (0.0, 100.0):
        model = task(head_lr=1e-3, rotation_weight=weight, optimizer=partial(torch.optim.Adam, lr=0.0))
        start = copy.deepcopy(model.network).eval()
        trainer(tmp_path, max_epochs=20).fit(model, without(Data(batch_size=4), "camera"))
        now, before = (network.eval()(birds()["image"]).camera for network in (model.network, start))
        turned[weight] = angular_error(now.rotation, before.rotation).mean()
        assert (now.scale - before.scale).abs().mean() > 0.1
    assert turned[0.0] > 5
    assert turned[100.0] < 2.5


@pytest.mark.parametrize("head_lr", [0.0, 1e-3])
def test_poses_do_not_follow_the_shapes_then_and_later(head_lr, tmp_path):
    reads = partial(KeypointHead, num_keypoints=8, width=8)
    model = task(reads, head_lr=head_lr)
    trainer(tmp_path).fit(model, without(Data(batch_size=4), "camera"))
    model.network.save(tmp_path / "adapted")
    for network in (model.network.eval(), PoseNetwork.load(tmp_path / "adapted")):
        assert network.head.reads_shapes
        with torch.no_grad():
            before = network(birds()["image"]).camera
            network.reconstructor.mean_shape.free *= torch.tensor([1.0, 0.5, 2.0])
            after = network(birds()["image"]).camera
            network.reconstructor.mean_shape.free /= torch.tensor([1.0, 0.5, 2.0])
            network.template_poses = False
            follows = network(birds()["image"]).camera
        assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))
        assert not torch.equal(before.rotation, follows.rotation)
    run = trainer(tmp_path)
    run.strategy.connect(task(reads))
    run.save_checkpoint(tmp_path / "task.ckpt")
    for kind in (PoseEstimator, ShapeAdaptation):
        assert kind.load_from_checkpoint(tmp_path / "task.ckpt").network.template_poses
    assert not PoseEstimator(TinyBackbone(width=8), reads).network.template_poses


def test_it_starts_with_the_weights_of_a_trained_head(tmp_path):
    torch.manual_seed(1)
    trained = PoseEstimator(TinyBackbone(width=8), QuaternionHead, reconstructor=small_reconstructor)
    run = trainer(tmp_path, max_epochs=0)
    run.fit(trained, Data())
    run.save_checkpoint(tmp_path / "head.ckpt")
    model = task(start=tmp_path / "head.ckpt", head_lr=1e-3)
    trainer(tmp_path, max_epochs=0).fit(model, Data())
    found, expected = tensors(model.network), tensors(trained.network)
    assert found.keys() == expected.keys()
    assert all(torch.equal(v, expected[f"head.{k}"]) for k, v in tensors(model.held).items())
    assert all(torch.equal(value, expected[name]) for name, value in found.items())
    wrong = task(FEW_KEYPOINTS, start=tmp_path / "head.ckpt")
    with pytest.raises(ValueError, match=r"needs the network that .*head.ckpt was trained with; got another"):
        trainer(tmp_path).fit(wrong, Data())
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*nowhere"):
        trainer(tmp_path).fit(task(start=tmp_path / "nowhere.ckpt"), Data())


def test_images_without_cameras_are_scored_by_their_silhouettes(tmp_path):
    model = task()
    data = without(Unlabeled(batch_size=2), "camera")
    (scores,) = trainer(tmp_path).test(model, data, verbose=False)
    assert scores["test/iou"] == pytest.approx(float(overlap(model)), abs=1e-6)
    assert not any("angle" in name for name in scores)


def test_the_reconstructor_alone_sees_thinned_features(tmp_path):
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            seen.append((module.network.training, module.network.head.training, module.feature_dropout.training))

    trainer(tmp_path, callbacks=[Watch()]).fit(task(feature_dropout=0.5), Data(batch_size=4))
    assert seen == [(False, False, True)]


def test_what_is_missing_is_told(tmp_path):
    with pytest.raises(ValueError, match="head_lr of at least 0; got -1"):
        task(head_lr=-1.0)
    with pytest.raises(ValueError, match="rotation_weight of at least 0; got nan"):
        task(rotation_weight=float("nan"))
    model = task()
    with pytest.raises(KeyError, match=r"needs batch entries \['image', 'mask'\].*gives \['mask'\]"):
        model.training_step(Batch(image=torch.zeros(1, 3, 32, 32)), 0)
    with pytest.raises(ValueError, match="positive render_size; got 0"):
        task(render_size=0)
