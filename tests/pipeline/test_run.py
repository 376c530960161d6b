import dataclasses
import json
import shutil
from functools import partial

import pytest
import torch
from pipeline.small import (
    ADAPTATION,
    BATCH,
    BATCHES,
    IMAGES,
    KEYPOINT,
    QUIET,
    SHAPES,
    TASK,
    Kill,
    files,
    killed_at,
    pipeline,
)
from pytorch_lightning import LightningDataModule

import kpose.pipeline.choice
import kpose.pipeline.run
import kpose.reconstruction.camera_choice
from kpose.backbones import Backbone
from kpose.geometry import axis_angle_to_matrix
from kpose.heads import KeypointHead, QuaternionHead, RotationHead
from kpose.inference import Predictor
from kpose.network import PoseNetwork
from kpose.pipeline import AdaptationSettings, PoseSettings, TrainerSettings
from kpose.reconstruction import CameraTable
from kpose.structures import FeatureSpec
from kpose.tasks import CameraSearch, PoseEstimator, ShapeAdaptation, ShapeTraining

pytestmark = QUIET

ALL = {
    "heads": {"quaternion": QuaternionHead, "keypoint": KEYPOINT},
    "shapes": SHAPES,
    "pose": PoseSettings(epochs=2, batch_size=BATCH),
    "adaptation": AdaptationSettings(epochs=2, batch_size=BATCH, task=ADAPTATION),
}


@pytest.fixture(scope="module")
def whole(cache, tmp_path_factory):
    """Folder and metrics of a run of all stages."""
    out = tmp_path_factory.mktemp("whole")
    return out, pipeline(out, cache, **ALL).run()


def test_all_stages_leave_their_results(whole):
    out, metrics = whole
    assert json.loads((out / "metrics.json").read_text()) == metrics
    assert metrics["searched_cameras"].keys() == {"best_deg", "top4_deg", "best_of_4_deg"}
    assert metrics["cameras"].keys() >= {"best_deg", "best_of_3_deg"}
    assert metrics["heads"].keys() == {"quaternion", "keypoint"}
    for scores in metrics["heads"].values():
        assert 0 < scores["angle_deg"] < 180
        assert 0 <= scores["iou"] < 1
    assert (out / "report.html").stat().st_size > 10_000
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2 + 1 + 2  # stage 2, training images, heads
    for name in ("cameras", "choice", "shapes"):
        for path in (out / name).glob("*/cameras.safetensors"):
            table = CameraTable(torch.arange(IMAGES))
            table.load(path)
            assert table.scored.all()
            assert table.num_cameras in (3, 4)
    (stage_2,) = (out / "shapes").glob("*/last.ckpt")
    shapes = torch.load(stage_2, weights_only=True)["state_dict"]
    for name, scores in metrics["heads"].items():
        (trained,) = (out / "heads" / name).glob("*/last.ckpt")
        network = PoseEstimator.load_from_checkpoint(trained, weights_only=True).network
        weights = network.reconstructor.state_dict()
        assert all(torch.equal(value, shapes[f"reconstructor.{key}"]) for key, value in weights.items())
        # Stage 4 changes the shapes and nothing else; its scores are those of what is left.
        both = (out / "scores" / name).glob("*/scores.json")
        before, after = sorted(both, key=lambda path: path.stat().st_mtime_ns)
        assert scores["iou_before_adaptation"] == json.loads(before.read_text())["iou"] != scores["iou"]
        assert scores["iou"] == json.loads(after.read_text())["iou"]
        adapted = ShapeAdaptation.load_from_checkpoint(out / f"{name}.ckpt", weights_only=True).network
        changed = {
            key.split(".")[0]
            for key, value in adapted.state_dict().items()
            if not torch.equal(value, network.state_dict()[key])
        }
        assert changed == {"reconstructor"}
        assert Predictor.from_checkpoint(out / f"{name}.ckpt").image_size == 32


def test_a_second_run_does_nothing_again(whole, cache):
    out, metrics = whole
    before = files(out)
    assert pipeline(out, cache, **ALL).run() == metrics
    assert files(out) == before


def test_a_changed_setting_redoes_only_what_depends_on_it(whole, cache, tmp_path):
    out = shutil.copytree(whole[0], tmp_path / "out")
    before = files(out)
    changes = {"pose": PoseSettings(epochs=1, batch_size=8), "heads": {"quaternion": QuaternionHead}}
    metrics = pipeline(out, cache, **{**ALL, **changes}).run()
    assert metrics["heads"]["quaternion"] != whole[1]["heads"]["quaternion"]
    after = files(out)
    assert {path: time for path, time in after.items() if path in before} == before
    new = {path.parts[0]: path for path in after.keys() - before.keys() if path.name == "last.ckpt"}
    assert (out / "quaternion.ckpt").read_bytes() == (out / new["adapted"]).read_bytes()
    places = {(step, "quaternion") for step in ("heads", "adapted", "scores")}
    assert {path.parts[:2] for path in after.keys() - before.keys()} == places


def test_parts_of_a_run_are_combined_by_the_last(whole, cache, tmp_path):
    for part in ("cameras", "heads/keypoint", "heads/quaternion"):
        metrics = pipeline(tmp_path, cache, **ALL, only=part).run()
        assert metrics.get("heads", {}).keys() == ({part.split("/")[1]} if "/" in part else set())
        assert not (tmp_path / "metrics.json").exists()
    before = files(tmp_path)
    assert pipeline(tmp_path, cache, **ALL).run() == whole[1]
    assert files(tmp_path) == before


class Wrapped(Backbone):
    """A backbone that no checkpoint could describe."""

    def __init__(self, layer):
        super().__init__(FeatureSpec((4,), (1,)))
        self.layer = layer

    def pyramid(self, image):
        return (self.layer(image),)


MOMENTS = {
    "stage 1, between batches": (CameraSearch, "training_step", 2),
    "stage 1, a batch later": (CameraSearch, "training_step", 2),
    "after stage 1": (kpose.pipeline.choice, "choose_cameras", 1),
    "within the choice": (kpose.reconstruction.camera_choice, "pose_posterior", 1),
    "stage 2, second epoch": (ShapeTraining, "training_step", BATCHES + 2),
    "before the cameras of stage 2 are written": (CameraTable, "save", 1),
    "stage 3, first epoch": (PoseEstimator, "training_step", 2),
    "stage 3, second epoch": (PoseEstimator, "training_step", BATCHES + 2),
    "before scores are written": (PoseEstimator, "on_test_epoch_end", 1),
    "stage 4, second epoch": (ShapeAdaptation, "training_step", BATCHES + 2),
    "before scores of stage 4 are written": (ShapeAdaptation, "on_test_epoch_end", 1),
    "second head, second epoch": (PoseEstimator, "training_step", BATCHES + 2),
    "before the report": (kpose.pipeline.run, "write_report", 1),
}


KEPT = {
    "stage 2, second epoch": "shapes",
    "stage 3, second epoch": "heads/quaternion",
    "stage 4, second epoch": "adapted/quaternion",
    "second head, second epoch": "heads/keypoint",
}


def test_a_run_that_is_killed_again_and_again_ends_with_the_same_metrics(whole, cache, tmp_path):
    for moment, (place, name, call) in MOMENTS.items():
        with pytest.MonkeyPatch.context() as patch:
            killed_at(patch, place, name, call)
            with pytest.raises(Kill):
                pipeline(tmp_path, cache, **ALL).run()
        assert not (tmp_path / "report.html").exists(), moment
        if moment in KEPT:  # the first epoch is not done again
            (checkpoint,) = (tmp_path / KEPT[moment]).glob("*/last.ckpt")
            assert torch.load(checkpoint, weights_only=True)["epoch"] == 0, moment
    torch.manual_seed(99)
    metrics = pipeline(tmp_path, cache, **ALL).run()
    assert metrics == whole[1]
    assert (tmp_path / "metrics.json").read_bytes() == (whole[0] / "metrics.json").read_bytes()


def test_no_choice_and_no_reconstruction(cache, tmp_path):
    metrics = pipeline(tmp_path, cache, choice=None).run()
    assert metrics.keys() == {"cameras", "heads", "searched_cameras"}
    left = {"cameras", "heads", "scores", "cameras.safetensors", "metrics.json", "quaternion.ckpt", "report.html"}
    assert {path.name for path in tmp_path.iterdir()} == left


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": {}}, "needs a pose head; got none"),
        ({"heads": {"../up": QuaternionHead}}, "names of heads that can be folders; got '../up'"),
        ({"heads": {"q": partial(KeypointHead, sigma=-1.0)}}, "a positive sigma"),
        ({"adaptation": AdaptationSettings()}, "needs the shapes of stage 2.*got no `shapes`"),
        ({"shapes": dataclasses.replace(SHAPES, task=partial(TASK, camera_lrr=1))}, "camera_lrr"),
        ({"shapes": dataclasses.replace(SHAPES, task=lambda *parts: TASK(*parts))}, "functools.partial"),
        (
            {**ALL, "adaptation": AdaptationSettings(task=partial(ADAPTATION, head_lr=-1.0))},
            "head_lr of at least 0",
        ),
        ({"views": 2}, "needs a frozen backbone"),
        ({"backbone": Wrapped(torch.nn.Conv2d(3, 4, 3))}, r"Wrapped\(layer=...\): A recipe needs plain values"),
        ({"data": LightningDataModule()}, "a method `dataset`; got Lightning"),
        ({"seed": -1}, "needs seeds from 0"),
        ({"only": "heads/none"}, "a part of this run as `only`: cameras, heads/quaternion; got 'heads/none'"),
        ({"trainer": TrainerSettings("cpu", devices=3)}, "3 processes can share evenly; got a batch_size of 8"),
    ],
)
def test_wrong_parts_are_told_before_anything_is_done(changes, message, cache, tmp_path):
    with pytest.raises((ValueError, TypeError), match=rf"(?s){message}"):
        pipeline(tmp_path, cache, **changes).run()
    assert files(tmp_path) == {}


def test_a_wrong_setting_leaves_old_results_alone(whole, cache):
    out, _ = whole
    before = files(out)
    with pytest.raises(ValueError, match="a positive sigma"):
        pipeline(out, cache, **{**ALL, "heads": {"new": partial(KeypointHead, sigma=-1.0)}}).run()
    assert files(out) == before


class AxisAngleHead(RotationHead):
    representation_size = 3

    def to_rotation(self, raw):
        return axis_angle_to_matrix(raw)


def test_heads_are_any_callables_of_spec_and_template(cache, tmp_path):
    heads = {"mine": AxisAngleHead, "other": lambda spec, template: QuaternionHead(spec, template, width=8)}
    metrics = pipeline(tmp_path, cache, choice=None, heads=heads).run()
    assert metrics["heads"].keys() == heads.keys()
    before = files(tmp_path)
    run = pipeline(tmp_path, cache, choice=None, heads=heads)
    assert run.run() == metrics
    assert files(tmp_path) == before
    trained = run.train_head("mine", run.learn_cameras())
    assert isinstance(trained.network.head, AxisAngleHead)
    (predicted,) = Predictor(trained.network, segmenter=None)([run.data.dataset("test")[0]["image"]])
    assert predicted.camera.rotation.shape == (3, 3)
    network = PoseNetwork.from_checkpoint(tmp_path / "other.ckpt")
    assert network.head.recorded_arguments()["width"] == 8
    with pytest.raises(ValueError, match="trusted_modules"):
        PoseNetwork.from_checkpoint(tmp_path / "mine.ckpt")
