"""The pipeline on a device, all of its stages."""

import device.accelerator
from pipeline.small import ADAPTATION, BATCH, KEYPOINT, QUIET, SHAPES, birds, pipeline

from kpose.pipeline import AdaptationSettings, TrainerSettings

pytestmark = QUIET

NEVER = ("kpose/backbones/", "kpose/heads/", "kpose/losses/", "kpose/pnp/", "kpose/geometry/")


def test_every_stage_runs_on_the_device(place, tmp_path, monkeypatch):
    if place.accelerator == "pretend":
        device.accelerator.use(monkeypatch)
    stages = pipeline(
        tmp_path / "run",
        tmp_path / "birds",
        data=birds(tmp_path / "birds", num_train=2 * BATCH, num_test=4),
        heads={"keypoint": KEYPOINT},
        shapes=SHAPES,
        adaptation=AdaptationSettings(epochs=1, batch_size=BATCH, task=ADAPTATION),
        trainer=TrainerSettings(place.accelerator),
    )
    with place.watched() as waits:
        metrics = stages.run()
    assert waits  # of renderers and scores
    assert metrics["heads"].keys() == {"keypoint"}
    assert not [wait for wait in waits if any(part in wait for part in NEVER)]
