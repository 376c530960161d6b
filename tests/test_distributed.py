from pathlib import Path

import pytest
from processes import in_two_processes, join

from kpose._distributed import barrier, broadcast, check_tasks, num_processes, rank


def run_rank(number: int, folder: str) -> None:
    join(number, folder)
    assert (num_processes(), rank()) == (2, number)
    if number == 0:
        Path(folder, "written").touch()
    barrier()
    assert Path(folder, "written").exists()
    assert broadcast(f"from {number}") == "from 0"


@pytest.mark.ddp
def test_processes_know_each_other(tmp_path):
    in_two_processes(run_rank, tmp_path)


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "1"}, False),
        ({"SLURM_NTASKS": "4"}, True),
        ({"SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"}, False),
        ({"SLURM_NTASKS": "4", "TORCHELASTIC_RUN_ID": "1"}, False),  # torchrun starts the processes
    ],
)
def test_tasks_that_share_nothing_are_refused(settings, refused, monkeypatch):
    for name in ("SLURM_NTASKS", "SLURM_JOB_NAME", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    if refused:
        with pytest.raises(ValueError, match=r"got 4 tasks and 1 in all.*Give --devices=4"):
            check_tasks("kpose", 1, "--devices")
    else:
        check_tasks("kpose", 1, "--devices")
