"""The pipeline on a device, without learned shapes: the one that is not there has no sparse matrices for them."""

import device.accelerator
from pipeline.small import KEYPOINT, QUIET, pipeline

from kpose.pipeline import TrainerSettings

pytestmark = QUIET

NEVER = ("kpose/backbones/", "kpose/heads/", "kpose/losses/", "kpose/pnp/", "kpose/geometry/")


def test_search_choice_and_heads_run_on_the_device(place, tmp_path, monkeypatch):
    if place.accelerator == "pretend":
        device.accelerator.use(monkeypatch)
    stages = pipeline(
        tmp_path / "run",
        tmp_path / "birds",
        heads={"keypoint": KEYPOINT},
        trainer=TrainerSettings(place.accelerator),
    )
    with place.watched() as waits:
        metrics = stages.run()
    assert waits  # of renderers and scores
    assert metrics["heads"].keys() == {"keypoint"}
    assert not [wait for wait in waits if any(part in wait for part in NEVER)]
