"""Ctrl-C ends a command with one line and the exit code of shells, whenever it comes."""

import os
import signal
import threading
from typing import NoReturn

__all__ = ["INTERRUPTED", "end_at_once", "let_finish"]

INTERRUPTED = 130


def end_at_once() -> None:
    """Let Ctrl-C end the process on the spot: while it imports, when exceptions may be swallowed, and at its end.

    A process that ignores it, as in the background, or handles it in another way goes on to do so.
    """
    _exchange(signal.default_int_handler, _end)


def let_finish() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` from now on, so that nothing stays half-written."""
    _exchange(_end, signal.default_int_handler)


def _exchange(old: object, new: object) -> None:
    # Lightning ignores Ctrl-C once it has been interrupted.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is old:
        signal.signal(signal.SIGINT, new)  # type: ignore[arg-type]


def _end(*_: object) -> NoReturn:
    os.write(2, b"kpose: Interrupted.\n")
    os._exit(INTERRUPTED)
