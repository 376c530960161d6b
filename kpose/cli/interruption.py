"""Ctrl-C and SIGTERM end a command with the exit code of shells, whenever they come; Ctrl-C with one line."""

import os
import signal
import sys
import threading
from typing import NoReturn

__all__ = ["INTERRUPTED", "end_at_once", "let_finish"]

INTERRUPTED = 130
TERMINATED = 143


def end_at_once() -> None:
    """Let signals end the process on the spot: while it imports, when exceptions may be swallowed, and at its end.

    A process that ignores one, as in the background, or handles it in another way goes on to do so.
    """
    _exchange(signal.SIGINT, signal.default_int_handler, _end)
    _exchange(signal.SIGTERM, signal.SIG_DFL, _stop)
    _exchange(signal.SIGTERM, _terminate, _stop)


def let_finish(*, writes: bool = True) -> None:
    """Let signals raise `KeyboardInterrupt` and `SystemExit` from now on, so that nothing stays half-written.

    Lightning and the pipeline, which save what they have reached, answer SIGTERM themselves: what they run does not
    write in this sense.
    """
    _exchange(signal.SIGINT, _end, signal.default_int_handler)
    _exchange(signal.SIGTERM, _stop, _terminate if writes else signal.SIG_DFL)


def _exchange(number: signal.Signals, old: object, new: object) -> None:
    # Lightning ignores Ctrl-C once it has been interrupted.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(number) is old:
        signal.signal(number, new)  # type: ignore[arg-type]


def _end(*_: object) -> NoReturn:
    os.write(2, b"kpose: Interrupted.\n")
    os._exit(INTERRUPTED)


def _stop(*_: object) -> NoReturn:
    os._exit(TERMINATED)


def _terminate(*_: object) -> NoReturn:
    sys.exit(TERMINATED)
