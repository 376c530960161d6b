"""The scripts of examples/slurm, with stand-ins for SLURM and submitit."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from kpose.cli.pipeline import main

ROOT = Path(__file__).parents[2]
SLURM = ROOT / "examples" / "slurm"
CONFIG = ROOT / "examples" / "configs" / "pipeline" / "cub-improved.yaml"


@pytest.mark.parametrize("script", sorted(SLURM.glob("*.s*h*")), ids=lambda path: path.name)
def test_scripts_are_sound_shell(script):
    subprocess.run(["sh", "-n", script], check=True)


def test_heads_wait_for_cameras_and_the_report_for_heads(tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nwc -l < {tmp_path}/asked\n')
    sbatch.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run([SLURM / "heads.sh", "--out=cub"], env=environment, check=True)
    cameras, heads, report = (tmp_path / "asked").read_text().splitlines()
    assert "--out=cub --only=cameras" in cameras
    assert "--dependency=afterok:1 --array=1-4" in heads
    command = heads.partition("--wrap ")[2].removeprefix("srun kpose pipeline ")
    names = [
        subprocess.run(["sh", "-c", f"echo {command}"], env={"SLURM_ARRAY_TASK_ID": str(k), **os.environ},
                       capture_output=True, text=True, check=True).stdout.split("/")[-1].strip()
        for k in (1, 2, 3, 4)
    ]  # fmt: skip
    assert sorted(names) == sorted(yaml.safe_load(CONFIG.read_text())["heads"])
    assert "--dependency=afterok:2" in report
    assert "--only" not in report


class Executor:
    """Takes note of what is submitted."""

    def __init__(self):
        self.jobs, self.after = [], None

    def update_parameters(self, slurm_additional_parameters):
        self.after = slurm_additional_parameters["dependency"]

    def submit(self, function, args):
        assert function is main
        self.jobs.append((args[-1], self.after))
        return SimpleNamespace(job_id=str(len(self.jobs)))

    def map_array(self, function, arguments):
        return [self.submit(function, args) for args in arguments]


def test_submitit_gets_the_same_jobs(monkeypatch):
    stand_in = ModuleType("submitit")
    stand_in.Executor, stand_in.Job = Executor, list
    monkeypatch.setitem(sys.modules, "submitit", stand_in)
    monkeypatch.syspath_prepend(SLURM)
    from submit import submit

    executor = Executor()
    submit(executor, [f"--config={CONFIG}", "--out=cub"])
    assert executor.jobs == [
        ("--only=cameras", None),
        ("--only=heads/gram_schmidt", "afterok:1"),
        ("--only=heads/keypoint", "afterok:1"),
        ("--only=heads/quaternion", "afterok:1"),
        ("--only=heads/svd", "afterok:1"),
        ("--out=cub", "afterok:2:3:4:5"),
    ]
    monkeypatch.delitem(sys.modules, "submit")
