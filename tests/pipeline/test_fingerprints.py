"""Which steps are done again when a setting changes."""

import dataclasses

import pytest
from pipeline.small import BATCH, RECONSTRUCTION, birds, pipeline

import kpose.pipeline.run as stages
from kpose.pipeline import PoseSettings


def redone(tmp_path, monkeypatch, first, second):
    """Name the steps of stages 1 and 2 that a change of settings does again; nothing is computed."""
    monkeypatch.setattr(stages, "camera_errors", lambda *args: None)
    monkeypatch.setattr(stages.Pipeline, "data_module", lambda self: object())
    log = []
    for settings in (first, second):
        run = pipeline(tmp_path / "out", tmp_path, **settings)
        step = run.results.step
        run.results.step = lambda name, made, work, step=step, **options: step(
            name, made, lambda folder: log.append(name), **options
        )
        log.clear()
        run.learn_cameras()
    return log


CACHED = PoseSettings(cached_views=2, batch_size=BATCH)


@pytest.mark.parametrize(
    ("pose", "others", "expected"),
    [
        ({"cached_views": 4}, {"reconstruction": RECONSTRUCTION}, ["choice", "reconstruction"]),
        ({"cached_views": 4}, {"reconstruction": RECONSTRUCTION, "choice": None}, ["reconstruction"]),
        ({"cached_views": 0}, {"reconstruction": RECONSTRUCTION, "choice": None}, ["reconstruction"]),
        ({"batch_size": 4}, {"reconstruction": RECONSTRUCTION}, ["choice", "reconstruction"]),
        ({"batch_size": 4}, {"reconstruction": RECONSTRUCTION, "choice": None}, ["reconstruction"]),
        ({"epochs": 3}, {"reconstruction": RECONSTRUCTION}, []),
        ({"batch_size": 4, "cached_views": 4}, {"choice": None}, []),
    ],
)
def test_what_the_views_depend_on_makes_stages_that_see_them_anew(pose, others, expected, tmp_path, monkeypatch):
    first = {"pose": CACHED, **others}
    assert redone(tmp_path, monkeypatch, first, {**first, "pose": dataclasses.replace(CACHED, **pose)}) == expected


def test_batches_of_heads_say_nothing_of_views_that_are_not_kept(tmp_path, monkeypatch):
    first = {"pose": PoseSettings(batch_size=BATCH), "reconstruction": RECONSTRUCTION}
    assert redone(tmp_path, monkeypatch, first, {**first, "pose": PoseSettings(batch_size=4)}) == []


def test_how_images_are_loaded_and_what_is_scored_changes_no_camera(tmp_path, monkeypatch):
    data = birds(tmp_path)
    data["init_args"] |= {"batch_size": 3, "num_workers": 1, "test_split": "val"}
    first = {"reconstruction": RECONSTRUCTION}
    assert redone(tmp_path, monkeypatch, first, {**first, "data": data}) == []
