"""Lightning's command line: ``kpose fit``, ``validate`` and ``test``."""

import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import lightning_fabric
import pytorch_lightning
from jsonargparse import ArgumentError
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.loggers import Logger, TensorBoardLogger
from pytorch_lightning.plugins.environments import SLURMEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

# Short class names on the command line resolve among classes that have been imported.
import kpose._files
import kpose._pictures
import kpose.backbones
import kpose.callbacks
import kpose.data
import kpose.tasks
from kpose._checkpoint import read_checkpoint
from kpose._distributed import check_tasks
from kpose._messages import one_line
from kpose.cli.configuration import named_files
from kpose.cli.interruption import let_finish
from kpose.cli.mistakes import explain
from kpose.data import CUBDataModule, SyntheticBirdsDataModule  # noqa: F401 - imports all data modules
from kpose.tasks import Task

__all__ = ["main"]

DESCRIPTION = "Train, validate and test pose heads. `kpose --help` lists all commands."
# What these refuse is about settings and files; other errors are of code, perhaps the user's.
DATA = (Path(kpose.data.__path__[0]), Path(kpose._files.__file__), Path(kpose._pictures.__file__))
LIGHTNING = (Path(pytorch_lightning.__path__[0]), Path(lightning_fabric.__path__[0]))
MISFIT = "Error(s) in loading state_dict"  # how torch begins
EXPLAINING = (*DATA, Path(__file__), Path(kpose.backbones.__path__[0]), Path(kpose.tasks.__path__[0]), *LIGHTNING)


class RefusedSettings(ValueError):
    """A class cannot be built from the settings that it was given."""


class SaveConfig(SaveConfigCallback):
    """Save the settings in the folder of the run; those of another run are kept, and refused."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Save them when training starts."""
        if self.already_saved:
            return
        self.already_saved = True
        file = Path(trainer.strategy.broadcast(_run_folder(trainer)), self.config_filename)
        text = self.parser.dump(self.config, skip_none=False)
        # The folder of a SLURM job is that of these settings: it has them if the job was requeued.
        taken = trainer.is_global_zero and file.exists() and not (_slurm_job() and file.read_text() == text)
        if trainer.strategy.broadcast(taken):
            raise ValueError(f"kpose fit needs a folder for its settings; {file} is another run's. Give a new one.")
        if trainer.is_global_zero:
            kpose._files.write_text(file, text)


class RequeueAfterStep(Callback):
    """Let Lightning answer SLURM's signal after the training step that it comes in, if it comes in one.

    In the middle of a step the batch would be lost, and the optimizer could be half a step ahead.
    """

    def __init__(self) -> None:
        self.answer: Any = None
        self.received = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of Lightning's handler, where there is one: in a job of SLURM."""
        answer = signal.getsignal(signal.SIGUSR1) if hasattr(signal, "SIGUSR1") else None
        if not callable(answer) or threading.current_thread() is not threading.main_thread():
            return
        self.answer = answer

        def receive(number: int, frame: FrameType | None) -> None:
            if trainer.training:
                self.received = True
            else:  # validation may take long
                answer(number, frame)

        signal.signal(signal.SIGUSR1, receive)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Answer after a step of the optimizer, within an epoch."""
        batches = getattr(pl_module, "accumulate", trainer.accumulate_grad_batches)
        if not trainer.is_last_batch and (batch_idx + 1) % batches == 0:
            self._answer(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Answer after an epoch."""
        self._answer(trainer)

    def _answer(self, trainer: Trainer) -> None:
        if self.answer is not None and trainer.strategy.reduce_boolean_decision(self.received, all=False):
            self.received = False
            self.answer(signal.SIGUSR1, None)


class CommandLine(LightningCLI):
    """Lightning's command line without its ``predict``, which ours replaces.

    Under SLURM a run has a folder of its own, ``version_<job>-<digest of the settings>``: it is where Lightning
    leaves the state of a job that is requeued, and where it looks for one.
    """

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the commands that are Lightning's."""
        return {k: v for k, v in LightningCLI.subcommands().items() if k != "predict"}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Read the arguments; wrong ones end the process."""
        try:
            super().parse_arguments(parser, args)
        except (ArgumentError, TypeError, ValueError) as error:  # the last ones of classes of settings
            line = explain(error, named_files(sys.argv[1:] if args is None else [*map(str, args)]))
            raise ArgumentError(None, line) from error
        checkpoint = self.config[self.config.subcommand].get("ckpt_path")
        if checkpoint is not None and Path(checkpoint).is_file():
            try:
                read_checkpoint(checkpoint)  # Lightning would pass on what decoders say of a damaged one
            except (OSError, ValueError) as error:
                raise RefusedSettings(one_line(error)) from error

    def instantiate_classes(self) -> None:
        """Build what the arguments describe."""
        try:
            super().instantiate_classes()
        except OSError as error:
            raise RefusedSettings(one_line(error)) from error
        except ValueError as error:
            raise RefusedSettings(explain(error, ())) from error
        let_finish(writes=False)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - as Lightning has it
        """Build the trainer."""
        own = self.config_init[self.subcommand]
        if job := _slurm_job():
            settings = self.parser.dump(self.config, skip_none=False)
            version = f"version_{job}-{kpose._files.fingerprint({'settings': settings})}"
            root = Path(own.trainer.default_root_dir or Path.cwd())
            kwargs["default_root_dir"] = root / "lightning_logs" / version
            if own.trainer.logger is None or own.trainer.logger is True:
                kwargs["logger"] = TensorBoardLogger(root, version=version)
            if any(kwargs["default_root_dir"].glob("hpc_ckpt_*.ckpt")):
                own.ckpt_path = None  # what the job had reached before it was requeued comes first
        trainer = super().instantiate_trainer(**kwargs)
        check_tasks("kpose fit", trainer.world_size, "--trainer.devices")
        return trainer


def _slurm_job() -> int | None:
    return SLURMEnvironment.job_id() if SLURMEnvironment.detect() else None


def _run_folder(trainer: Trainer) -> str:
    """Return the folder of a run, in which its checkpoints are, too."""
    logger: Logger | None = trainer.logger
    if logger is None or logger.save_dir is None:
        return trainer.default_root_dir
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return str(Path(logger.save_dir, str(logger.name), version))


def main(args: Sequence[str] | None) -> int:
    """Run one of Lightning's commands for a user of the shell."""
    try:
        _run(args)
    except ArgumentError as error:
        sys.stderr.write(f"kpose: {error} (kpose COMMAND --help lists all options)\n")
        return 2
    except (OSError, ValueError, KeyError, RuntimeError, MisconfigurationException) as error:
        known = isinstance(error, RefusedSettings | MisconfigurationException) or str(error).startswith(MISFIT)
        if not (known or _is_explained(error)):
            raise
        sys.stderr.write(f"kpose: {_text(error)}\n")
        return 1
    return 0


def _run(args: Sequence[str] | None) -> None:
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # frozen backbones, on purpose
    if args is not None:  # those of the process are then for someone else, such as `kpose pipeline`
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within")
    CommandLine(
        Task,
        LightningDataModule,
        save_config_callback=SaveConfig,
        trainer_defaults={"callbacks": RequeueAfterStep()},
        subclass_mode_model=True,
        subclass_mode_data=True,
        parser_kwargs={
            "prog": "kpose",
            "description": DESCRIPTION,
            "exit_on_error": False,
            **{command: {"exit_on_error": False} for command in CommandLine.subcommands()},
        },
        args=None if args is None else list(args),
    )


def _is_explained(error: BaseException) -> bool:
    """Return whether data, a task or Lightning raised an error on purpose; a worker's text has its traceback."""
    text = str(error)
    if text.startswith("Caught ") and "DataLoader worker" in text:
        return text.rpartition('File "')[2].startswith(tuple(map(str, DATA)))
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return (frame.line or "").startswith("raise ") and any(map(Path(frame.filename).is_relative_to, EXPLAINING))


def _text(error: BaseException) -> str:
    if isinstance(error, KeyError):  # whose text is quoted
        return str(error.args[0])
    if str(error).startswith(MISFIT):
        return f"--ckpt_path needs a checkpoint of the model that is configured ({one_line(error)[:300]} ...)."
    return one_line(error).rpartition("Error: ")[2] if str(error).startswith("Caught ") else one_line(error)
