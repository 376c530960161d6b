"""Lightning's command line: ``kpose fit``, ``validate`` and ``test``."""

import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning
from pytorch_lightning import LightningDataModule
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

# Short class names on the command line resolve among classes that have been imported.
import kpose._files
import kpose.callbacks
import kpose.data
import kpose.tasks
from kpose._messages import one_line
from kpose.data import CUBDataModule, SyntheticBirdsDataModule  # noqa: F401 - imports all data modules
from kpose.tasks import Task

__all__ = ["main"]

DESCRIPTION = "Train, validate and test pose heads. `kpose --help` lists all commands."
# What these refuse is about settings and files; other errors are of code, perhaps the user's.
DATA = (Path(kpose.data.__path__[0]), Path(kpose._files.__file__))
EXPLAINING = (*DATA, Path(kpose.tasks.__path__[0]), Path(pytorch_lightning.__path__[0]))


class RefusedSettings(ValueError):
    """A class cannot be built from the settings that it was given."""


class CommandLine(LightningCLI):
    """Lightning's command line without its ``predict``, which ours replaces."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the commands that are Lightning's."""
        return {k: v for k, v in LightningCLI.subcommands().items() if k != "predict"}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Read the arguments; wrong ones end the process."""
        try:
            super().parse_arguments(parser, args)
        except (TypeError, ValueError) as error:  # no text in UTF-8, or what a class of settings refuses
            parser.error(one_line(error))

    def instantiate_classes(self) -> None:
        """Build what the arguments describe."""
        try:
            super().instantiate_classes()
        except (OSError, ValueError) as error:
            raise RefusedSettings(one_line(error)) from error


def main(args: Sequence[str] | None) -> int:
    """Run one of Lightning's commands for a user of the shell."""
    try:
        _run(args)
    except (OSError, ValueError, KeyError, RuntimeError, MisconfigurationException) as error:
        if not (isinstance(error, RefusedSettings | MisconfigurationException) or _is_explained(error)):
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
        subclass_mode_model=True,
        subclass_mode_data=True,
        parser_kwargs={"prog": "kpose", "description": DESCRIPTION},
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
    return one_line(error).rpartition("Error: ")[2] if str(error).startswith("Caught ") else one_line(error)
