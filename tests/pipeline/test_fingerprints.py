"""Which steps are done again when a setting changes."""

import copy
import dataclasses

import pytest
import torch
from pipeline.small import BATCH, KEYPOINT, SHAPES, backbone, birds, pipeline

import kpose.pipeline.run
from kpose.heads import QuaternionHead
from kpose.pipeline import ChoiceSettings, PoseSettings, RerankSettings, TrainerSettings
from kpose.pipeline.folder import ResultFolder
from kpose.reconstruction import CameraTable
from kpose.templates import bird


@pytest.fixture
def steps(monkeypatch):
    """Names of the steps that are done; nothing is computed."""
    log, step = [], ResultFolder.step
    monkeypatch.setattr(
        ResultFolder,
        "step",
        lambda self, name, made, work, **options: step(
            self, name, made, lambda folder: log.append(name), **options
        ),
    )
    monkeypatch.setattr(kpose.pipeline.run, "camera_errors", lambda *args: None)
    monkeypatch.setattr(kpose.pipeline.run, "load_shapes", lambda task, folder: task)
    monkeypatch.setattr(CameraTable, "load", lambda self, path: None)
    return log


@pytest.fixture
def redone(cache, steps, tmp_path, monkeypatch):
    """Name the steps of stages 1 and 2 that a change of settings does again."""

    def redo(first, second):
        for settings in (first, second):
            steps.clear()
            pipeline(tmp_path / "out", cache, **settings).learn_cameras()
        return list(steps)

    return redo


FROZEN = backbone().freeze()
WHOLE = {"backbone": FROZEN, "views": 2, "shapes": SHAPES, "pose": PoseSettings(batch_size=BATCH)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"views": 4}, ["choice", "shapes"]),
        ({"views": 4, "choice": None}, ["shapes"]),
        ({"views": 0, "choice": None}, ["shapes"]),
        ({"pose": PoseSettings(batch_size=4)}, []),
        ({"pose": PoseSettings(batch_size=BATCH, epochs=3)}, []),
        ({"heads": {"keypoint": KEYPOINT}}, []),
        ({"shapes": dataclasses.replace(SHAPES, epochs=3)}, ["shapes"]),
        ({"choice": ChoiceSettings(rounds=3)}, ["choice", "shapes"]),
        ({"template": bird()}, []),
        ({"template": bird()._replace(vertices=0.9 * bird().vertices)}, ["cameras", "choice", "shapes"]),
        ({"seed": 1}, ["cameras", "choice", "shapes"]),
        ({"trainer": TrainerSettings("cpu", sync_batchnorm=True, max_time="01:00:00:00")}, []),
        ({"trainer": TrainerSettings("cpu", precision="bf16-mixed")}, ["choice", "shapes"]),
        ({"views": 4, "choice": None, "shapes": None}, []),
    ],
)
def test_what_a_stage_is_made_from_does_it_again(change, expected, redone):
    first = {**WHOLE, **{name: value for name, value in change.items() if value is None}}
    assert redone(first, {**first, **change}) == expected


def test_other_weights_of_the_backbone_are_another_backbone(redone):
    other = copy.deepcopy(FROZEN)
    next(other.parameters()).data += 1
    assert redone(WHOLE, {**WHOLE, "backbone": other}) == ["choice", "shapes"]
    assert redone(WHOLE, {**WHOLE, "backbone": copy.deepcopy(FROZEN)}) == []


def test_how_images_are_loaded_and_what_is_scored_changes_no_camera(cache, redone, tmp_path):
    data = birds(cache, batch_size=3, num_workers=1)
    data.test_split = "val"
    assert redone({"shapes": SHAPES}, {"shapes": SHAPES, "data": data}) == []
    assert redone({}, {"data": birds(cache, flip=0.1)}) == ["cameras", "choice"]


def test_heads_are_known_by_what_they_build_and_reranking_by_its_heads(redone):
    def local(spec, template):
        return QuaternionHead(spec, template, width=8)

    settings = {"rerank": RerankSettings({"q": local})}
    rerank = ["rerank/q-fold0", "rerank/q-fold1", "rerank/cameras"]
    assert redone({}, settings) == rerank
    same = RerankSettings({"q": lambda spec, template: QuaternionHead(spec, template, width=8)})
    assert redone(settings, {"rerank": same}) == []
    assert redone(settings, {"rerank": dataclasses.replace(same, weight=0.1)}) == ["rerank/cameras"]
    assert redone(settings, {"rerank": RerankSettings({"q": QuaternionHead})}) == rerank
    assert redone(settings, {**settings, "pose": PoseSettings(epochs=7, batch_size=BATCH)}) == rerank


def test_the_split_that_is_scored_decides_scores_only(cache, steps, tmp_path, monkeypatch):
    monkeypatch.setattr(kpose.pipeline.run, "trained_weights", lambda folder: None)
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", lambda self, weights: None)
    monkeypatch.setattr(kpose.pipeline.run.json, "loads", lambda text: {})
    monkeypatch.setattr(kpose.pipeline.run.Path, "read_text", lambda path, **options: "")
    for split, expected in (("test", ["cameras", "choice", "heads/q", "scores/q"]), ("val", ["scores/q"])):
        data = birds(cache)
        data.test_split = split
        steps.clear()
        run = pipeline(tmp_path / "out", cache, data=data, heads={"q": QuaternionHead})
        run.train_head("q", run.learn_cameras())
        assert steps == expected
