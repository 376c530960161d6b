"""Where figures come from: the command, the code, and the machine that computed them."""

import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

import kpose

__all__ = ["origin"]

NAMES = {  # what stands for a path of one's own
    "--root": "$KPOSE_CUB_ROOT",
    "--data.init_args.root": "$KPOSE_CUB_ROOT",
    "--backbone": "$KPOSE_BACKBONE",
    "--backbone.init_args.name": "$KPOSE_BACKBONE",
    "--davis": "$KPOSE_DAVIS_ROOT",
}


def origin(command: Sequence[str], *, names: Mapping[str, str] = NAMES) -> dict[str, Any]:
    """Say what a figure was computed with, without a word about whose machine it was.

    Args:
        command: The command line.
        names: What is written in place of a value that is a path of this machine, by the option before it.

    Returns:
        ``command``, as one line; ``version`` of kpose, its ``commit`` when it runs from a checkout (else None; ends
        in ``-dirty`` where files were changed); ``date``; ``hardware``, in words; versions of ``python`` and
        ``torch``.

    Example:
        >>> origin(["python", "table1.py", "--root", "/path/to/cub", "--out", "/path/to/a"])["command"]
        'python table1.py --root $KPOSE_CUB_ROOT --out a'
    """
    return {
        "command": _portable(command, names),
        "version": kpose.__version__,
        "commit": _commit(),
        "date": date.today().isoformat(),
        "hardware": _hardware(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _portable(command: Sequence[str], names: Mapping[str, str]) -> str:
    """Write a command without the folders of one machine."""
    words: list[str] = []
    for word in command:
        start, _, value = word.rpartition("=")  # --option=value or NAME=value, else the value alone
        if os.sep in value and Path(value).is_absolute():
            before = start if start.startswith("--") else (words[-1] if words else "")
            value = names.get(before) or shlex.quote(Path(value).name)
            words.append(f"{start}={value}" if start else value)
        else:
            words.append(shlex.quote(word))
    return " ".join(words)


def _commit() -> str | None:
    root = Path(kpose.__file__).parents[1]
    try:
        top, commit = (
            subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "--show-toplevel"), ("describe", "--always", "--dirty", "--exclude=*"))
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    # An installed kpose may lie in an environment within somebody else's repository.
    return commit if Path(top).resolve() == root.resolve() else None


def _hardware() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    words = f"{cores} CPU cores ({_processor()}), {torch.get_num_threads()} threads"
    return f"{words}, {torch.cuda.get_device_name()}" if torch.cuda.is_available() else words


def _processor() -> str:
    file = Path("/proc/cpuinfo")  # platform.processor() is empty on most Linux systems
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
