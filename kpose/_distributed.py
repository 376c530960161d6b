"""The processes of a run that is distributed over devices: which one this is, and what all of them do together."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist
from filelock import FileLock, Timeout
from torch import Tensor

__all__ = ["barrier", "broadcast", "check_tasks", "locked", "num_processes", "rank", "share", "total"]

_log = logging.getLogger(__name__)
_PATIENCE = 30.0  # seconds, of process 0 with a lock: the others must not wait for it longer than torch lets them
_INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs whose processes a user starts


def num_processes() -> int:
    """Return how many processes there are, as torch.distributed has them.

    Example:
        >>> num_processes()
        1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0.

    Example:
        >>> rank()
        0
    """
    return dist.get_rank() if num_processes() > 1 else 0


def barrier() -> None:
    """Wait until all processes are here.

    Example:
        >>> barrier()
    """
    if num_processes() > 1:
        dist.barrier()


def broadcast(value: Any) -> Any:  # noqa: ANN401 - whatever can be pickled
    """Return what process 0 gives.

    Example:
        >>> broadcast("folder")
        'folder'
    """
    if num_processes() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def share(count: int) -> range:
    """Return which of so many things are this process's; neighbors stay together.

    Example:
        >>> share(5)
        range(0, 5)
    """
    each = -(-count // num_processes())
    return range(min(rank() * each, count), min((rank() + 1) * each, count))


def total(tensor: Tensor) -> Tensor:
    """Sum a tensor over all processes.

    Example:
        >>> total(Tensor([1.0, 2.0]))
        tensor([1., 2.])
    """
    if num_processes() > 1:
        tensor = tensor.clone()
        dist.all_reduce(tensor)
    return tensor


def check_tasks(who: str, processes: int, option: str) -> None:
    """Refuse tasks of SLURM that would each do all of the work, as they are more than the processes that share it.

    Args:
        who: What is run, for the error.
        processes: Processes that share the work.
        option: Name of the option that says how many devices there are.

    Raises:
        ValueError: If SLURM has started another number of tasks.

    Example:
        >>> check_tasks("kpose fit", 1, "--trainer.devices")
    """
    tasks = int(os.environ.get("SLURM_NTASKS", processes))
    started_by_user = os.environ.get("SLURM_JOB_NAME") in _INTERACTIVE or "TORCHELASTIC_RUN_ID" in os.environ
    if tasks != processes and not started_by_user:
        raise ValueError(
            f"{who} needs a task of SLURM for each device; got {tasks} tasks and {processes} in all (devices times "
            f"nodes). Give {option}={os.environ.get('SLURM_NTASKS_PER_NODE', tasks)} and --ntasks-per-node alike."
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder while all processes of this one work in it; wait as long as one is there.

    The lock ends with the process that holds it, however that ends.

    Example:
        >>> with locked(getfixture("tmp_path") / "features"):
        ...     pass
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, patience = FileLock(folder / ".lock"), 0.0
    try:
        while not broadcast(_acquire(lock, patience)):
            if not patience:
                _log.warning("Another run works in %s. Waiting until it has finished.", folder)
            patience = _PATIENCE
        yield
    finally:
        lock.release()


def _acquire(lock: FileLock, patience: float) -> bool:
    if rank() == 0:
        with suppress(Timeout):
            lock.acquire(patience, poll_interval=min(1.0, patience / 10 + 0.01))
    return lock.is_locked
