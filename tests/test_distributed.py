import threading
from pathlib import Path

import pytest
from filelock import FileLock
from processes import in_two_processes, join

from kpose._distributed import barrier, broadcast, check_tasks, locked, num_processes, rank


def run_rank(number: int, folder: str) -> None:
    join(number, folder)
    assert (num_processes(), rank()) == (2, number)
    if number == 0:
        Path(folder, "written").touch()
    barrier()
    assert Path(folder, "written").exists()
    assert broadcast(f"from {number}") == "from 0"
    with locked(Path(folder, "shared")):
        barrier()


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


def test_a_run_waits_until_another_has_left_the_folder(tmp_path, caplog):
    tmp_path.joinpath("shared").mkdir()
    order, other = [], FileLock(tmp_path / "shared" / ".lock", thread_local=False)
    other.acquire()
    caplog.set_level("WARNING")

    class Release(threading.Thread):
        def run(self):
            while not caplog.messages:
                pass
            order.append("left")
            other.release()

    thread = Release()
    thread.start()
    with locked(tmp_path / "shared"):
        order.append("entered")
    thread.join()
    assert order == ["left", "entered"]
    assert "Another run works in" in caplog.text
