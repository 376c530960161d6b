"""Signals of schedulers: work is saved, SLURM is asked to start the job again, and an exit code says so."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from kpose._distributed import rank

__all__ = ["EXIT_CODE", "Interrupted", "Interruption"]

EXIT_CODE = 75
"""Exit code of a run that ended before it was done and goes on when it is started again (EX_TEMPFAIL)."""
REQUEUE = getattr(signal, "SIGUSR1", None)
SIGNALS = [getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGALRM") if hasattr(signal, name)]


class Interrupted(SystemExit):
    """A run was told to end; it goes on when it is started again."""

    def __init__(self, number: int) -> None:
        super().__init__(EXIT_CODE)
        self.number = number

    def __str__(self) -> str:
        """Report what it was."""
        return f"Interrupted by {signal.Signals(self.number).name}. The same command goes on from here."


class Interruption:
    """Ends a run at a signal: in training after a step, whose state is saved; elsewhere at once.

    SIGTERM is what SLURM sends before it kills; SIGUSR1 what a job asks for some minutes before its time is over:
    SLURM is then asked to requeue it. SIGALRM comes when the time is over that a run was given.

    Args:
        seconds: Time that a run is given; None does not limit it.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = seconds
        self.received: int | None = None
        self._training = False
        self._before: dict[int, Any] = {}

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Answer signals as long as the block runs; in threads other than the main one Python gets none."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._before = {number: signal.getsignal(number) for number in SIGNALS}
        self.listen()
        if self.seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, self.seconds)
        try:
            yield
        except Interrupted as error:
            if rank() == 0:
                sys.stderr.write(f"{error}\n")
                _requeue(error.number)
            raise
        finally:
            if self.seconds is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
            for number, handler in self._before.items():
                signal.signal(number, handler)
            self._before = {}

    def listen(self) -> None:
        """Take the place of handlers that were set since, such as Lightning's, which save nothing."""
        for number in self._before:
            signal.signal(number, self._receive)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        if not self._training:
            raise Interrupted(number)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Leave signals to `SaveAndEnd` as long as the block runs."""
        self._training = True
        try:
            yield
        finally:
            self._training = False
        if self.received is not None:  # after the last step
            raise Interrupted(self.received)


class SaveAndEnd(Callback):
    """Save a training and end it when a process of it has been told to."""

    def __init__(self, interruption: Interruption, path: Path) -> None:
        self.interruption = interruption
        self.path = path

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Answer signals in Lightning's place."""
        self.interruption.listen()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Answer signals in Lightning's place."""
        self.interruption.listen()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """End after a step of the optimizer, within an epoch."""
        if trainer.is_last_batch or (batch_idx + 1) % getattr(pl_module, "accumulate", 1):
            return
        received = self.interruption.received
        if trainer.strategy.reduce_boolean_decision(received is not None, all=False):
            self.save(trainer)
            raise Interrupted(received or signal.SIGTERM)

    def save(self, trainer: Trainer) -> None:
        """Save what training has reached."""
        trainer.save_checkpoint(self.path)


def _requeue(number: int) -> None:
    """Ask SLURM to start this job again, if it is one and that is what the signal is for."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = os.environ.get("SLURM_JOB_ID", "") if array is None else f"{array}_{task}"
    if number == REQUEUE and re.fullmatch(r"\d+(_\d+)?", job):
        subprocess.run(["scontrol", "requeue", job], check=False)
