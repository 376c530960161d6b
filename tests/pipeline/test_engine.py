import pytest
import torch
from pytorch_lightning.accelerators import CUDAAccelerator
from pytorch_lightning.plugins.environments import LightningEnvironment, SLURMEnvironment

from kpose.pipeline import TrainerSettings
from kpose.pipeline.engine import Engine, fast_precision


@pytest.fixture
def slurm(monkeypatch):
    """Be one of the tasks of a SLURM job."""

    def start(tasks):
        place = {"NTASKS": tasks, "NTASKS_PER_NODE": tasks, "NNODES": 1, "JOB_ID": 1234, "JOB_NAME": "birds"}
        for name, value in {**place, "PROCID": 0, "LOCALID": 0, "NODEID": 0}.items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))

    return start


def test_the_device_is_lightning_s(monkeypatch):
    assert Engine(TrainerSettings("cpu")).device == torch.device("cpu")
    monkeypatch.setattr(CUDAAccelerator, "is_available", staticmethod(lambda: False))
    with pytest.raises(ValueError, match="accelerator is not available"):
        Engine(TrainerSettings("cuda"))


def test_bfloat16_is_for_processors_that_have_it(monkeypatch):
    for capabilities, expected in (({"avx2": True}, "32-true"), ({"avx512_bf16": True}, "bf16-mixed")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert fast_precision(torch.device("cpu")) == expected


def test_lightning_requeues_no_job_of_a_pipeline(slurm, tmp_path):
    slurm(1)
    for plugins in (None, [SLURMEnvironment()]):
        trainer = Engine(TrainerSettings("cpu", plugins=plugins)).trainer(tmp_path)
        assert not trainer._accelerator_connector.cluster_environment.auto_requeue
        assert trainer.default_root_dir == str(tmp_path)
    trainer = Engine(TrainerSettings("cpu", plugins=[LightningEnvironment()])).trainer(tmp_path)
    assert isinstance(trainer._accelerator_connector.cluster_environment, LightningEnvironment)


def test_more_tasks_than_devices_are_refused(slurm):
    slurm(2)
    with pytest.raises(ValueError, match=r"got 2 tasks and 1 in all.* Give --trainer.devices=2"):
        Engine(TrainerSettings("cpu"))


def test_processes_share_batches(tmp_path):
    engine = Engine(TrainerSettings("cpu", devices=2))
    assert engine.num_processes == 2
    assert engine.share(6) == 3
    with pytest.raises(ValueError, match="2 processes can share evenly; got a batch_size of 5"):
        engine.share(5)


@pytest.mark.parametrize("wrong", ["1:00", "two days", "00:00:01", "1:00:00:00:00"])
def test_time_limits_are_days_hours_minutes_and_seconds(wrong):
    assert TrainerSettings(max_time="01:02:03:04").seconds == 86400 + 2 * 3600 + 3 * 60 + 4
    with pytest.raises(ValueError, match="max_time as DD:HH:MM:SS"):
        TrainerSettings(max_time=wrong)
