"""Two processes that talk over gloo, as a launcher such as torchrun starts them."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import torch


def in_two_processes(work: Callable[[int, str], None], folder: Path) -> None:
    """Run ``work(rank, folder)`` in two processes at once.

    Args:
        work: Function of a module; it calls `join` first.
        folder: Where the two meet, and leave their results.
    """
    # All are forked from one process, which imports once what is slow to import.
    multiprocessing.set_forkserver_preload(["kpose.tasks"])
    torch.multiprocessing.start_processes(work, (str(folder),), nprocs=2, start_method="forkserver")


def join(rank: int, folder: str) -> None:
    """Be one of the two."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    os.environ.update({name: str(value) for name, value in place.items()}, TORCHELASTIC_RUN_ID="test")
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
