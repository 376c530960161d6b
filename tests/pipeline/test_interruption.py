"""Signals of schedulers: a run saves, ends with an exit code of its own, and ends the same when it is repeated."""

import os
import signal

import pytest
from pipeline.small import BATCH, BATCHES, QUIET, pipeline

import kpose.pipeline.choice
from kpose.heads import QuaternionHead
from kpose.pipeline import ChoiceSettings, PoseSettings
from kpose.pipeline.interruption import EXIT_CODE, Interrupted, Interruption
from kpose.tasks import CameraSearch, PoseEstimator

pytestmark = QUIET
SETTINGS = {
    "choice": None,
    "heads": {"a": QuaternionHead, "b": QuaternionHead},
    "pose": PoseSettings(epochs=2, batch_size=BATCH, feature_dropout=0.2),
}


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Be a job of SLURM in an empty folder; return the file that its controller is asked in."""
    place = {"NTASKS": 1, "JOB_ID": 1234, "JOB_NAME": "birds", "PROCID": 0, "LOCALID": 0, "NODEID": 0}
    for name, value in place.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    script = tmp_path / "bin" / "scontrol"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/asked\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    tmp_path.joinpath("work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "asked"


def signaled(patch, place, name, call, number):
    """Send a signal to this process at one of the calls of a function, which goes on."""
    work, calls = getattr(place, name), []

    def once(*args, **settings):
        calls.append(args)
        if len(calls) == call:
            os.kill(os.getpid(), number)
        return work(*args, **settings)

    patch.setattr(place, name, once)
    return calls


def ends(run):
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == EXIT_CODE


def test_a_requeued_run_goes_on_within_the_epoch_and_heads_stay_apart(asked, cache, tmp_path, capsys):
    whole = pipeline(tmp_path / "whole", cache, **SETTINGS).run()
    handler = signal.getsignal(signal.SIGUSR1)
    for task, call in ((CameraSearch, 2), (PoseEstimator, BATCHES + 2), (PoseEstimator, 3)):
        with pytest.MonkeyPatch.context() as patch:
            calls = signaled(patch, task, "training_step", call, signal.SIGUSR1)
            ends(pipeline(tmp_path / "out", cache, **SETTINGS).run)
        assert len(calls) == call  # saved and ended after the step
        assert "SIGUSR1. The same command goes on" in capsys.readouterr().err
    assert asked.read_text() == 3 * "requeue 1234\n"
    with pytest.MonkeyPatch.context() as patch:
        steps = signaled(patch, PoseEstimator, "training_step", 0, signal.SIGUSR1)
        assert pipeline(tmp_path / "out", cache, **SETTINGS).run() == whole
    # Of six steps each, the first run of the heads did five of a, the second the last one and two of b.
    assert len(steps) == 2 * BATCHES - 2
    assert not list(tmp_path.rglob("hpc_ckpt*"))
    assert signal.getsignal(signal.SIGUSR1) == handler


def test_a_run_ends_at_once_where_nothing_is_trained(asked, cache, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        signaled(patch, kpose.pipeline.choice, "choose_cameras", 1, signal.SIGTERM)
        ends(pipeline(tmp_path / "out", cache, choice=ChoiceSettings(100, 200, rounds=2)).run)
    assert not asked.exists()
    assert not list((tmp_path / "out" / "choice").glob("*/cameras.safetensors"))


def test_time_that_is_over_is_a_signal():
    interruption = Interruption(1e-3)
    with pytest.raises(Interrupted), interruption.answered():
        signal.pause()
    assert interruption.received == signal.SIGALRM
    with interruption.answered():  # and is forgotten with the block
        pass
