"""Processes that are forked from one which has imported what is slow to import."""

import multiprocessing
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import torch

PRELOAD = ["kpose.tasks", "kpose.cli.lightning"]


def run_forked(code: str, folder: Path) -> tuple[int, str, str]:
    """Run code as ``python -c`` would, but for the seconds of its imports.

    Args:
        code: Lines of Python; they are the module ``__main__``.
        folder: Folder to run in; what the process writes is collected beside it.

    Returns:
        Exit code, negative for a signal, and what was written to the standard output and to the standard error.
    """
    multiprocessing.set_forkserver_preload(PRELOAD)
    context = multiprocessing.get_context("forkserver")
    streams = [folder.with_name(f"{folder.name}.{name}") for name in ("out", "err")]
    process = context.Process(target=_run, args=(code, folder, dict(os.environ), *streams))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, *(path.read_text() for path in streams)


def _run(code: str, folder: Path, environment: dict[str, str], *streams: Path) -> None:
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.modules["__main__"] = main = types.ModuleType("__main__")
    exec(compile(code, "<string>", "exec"), main.__dict__)


def in_two_processes(work: Callable[[int, str], None], folder: Path) -> None:
    """Run ``work(rank, folder)`` in two processes that talk over gloo, as a launcher such as torchrun starts them.

    Args:
        work: Function of a module; it calls `join` first.
        folder: Where the two meet, and leave their results.
    """
    multiprocessing.set_forkserver_preload(PRELOAD)
    torch.multiprocessing.start_processes(work, (str(folder),), nprocs=2, start_method="forkserver")


def join(rank: int, folder: str) -> None:
    """Be one of the two."""
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    os.environ.update({name: str(value) for name, value in place.items()}, TORCHELASTIC_RUN_ID="test")
    store = f"file://{folder}/store"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
