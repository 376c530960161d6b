"""Lightning's command line: ``kpose fit``, ``validate`` and ``test``."""

import re
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentError
from pytorch_lightning import LightningDataModule
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

# Short class names on the command line resolve among classes that have been imported.
import kpose.callbacks
import kpose.data
from kpose.configuration_files import BOUNDED_YAML, parsing
from kpose.data import CUBDataModule, SyntheticBirdsDataModule  # noqa: F401 - imports all data modules
from kpose.messages import one_line
from kpose.tasks import Task

__all__ = ["main", "run_lightning"]

DESCRIPTION = "Train, validate and test pose heads. `kpose --help` lists all commands."
NOT_NONE = "Expected a <class 'NoneType'>"
WORKER = re.compile(r"Caught \w+ in DataLoader worker process .*\n\w+: (.+)\s*\Z", re.DOTALL)
SOURCES = re.compile(r'^ +File "(.+)", line \d+', re.MULTILINE)
REFUSALS = re.compile(rf"^\s*- (?!{NOT_NONE})(.+)$", re.MULTILINE)


class RefusedSettings(ValueError):
    """A class of ours cannot be built from the settings that it was given."""


class CommandLine(LightningCLI):
    """Lightning's command line without its ``predict``, which ours replaces."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Name the commands that are Lightning's."""
        return {k: v for k, v in LightningCLI.subcommands().items() if k != "predict"}

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Read the arguments; wrong ones end the process with one line."""
        try:
            with parsing():
                super().parse_arguments(parser, args)
        except ArgumentError as error:
            parser.error(error.message)

    def instantiate_classes(self) -> None:
        """Build what the arguments describe; a class of ours that refuses its own ones says so itself."""
        try:
            super().instantiate_classes()
        except (OSError, ValueError) as error:
            reason: BaseException = error
            while reason.__cause__ is not None:  # jsonargparse's text about arguments that may be None hides it
                reason = reason.__cause__
            lines = REFUSALS.findall(str(error))
            if lines and str(reason).startswith(NOT_NONE):  # on Python 3.10 what was refused is in the text alone
                raise RefusedSettings(lines[0]) from error
            if not _comes_from(reason, Path(kpose.__file__).parent):
                raise
            raise RefusedSettings(str(reason)) from error


def main(args: Sequence[str] | None) -> int:
    """Run one of Lightning's commands for a user of the shell.

    Args:
        args: Command and arguments, those of the process when None.

    Returns:
        0; 1 if the data or the settings of the trainer cannot be used, and one line says why.

    Raises:
        SystemExit: If the arguments are wrong.
    """
    try:
        run_lightning(args)
    except (OSError, ValueError, KeyError, RuntimeError, MisconfigurationException) as error:
        reason = _reason(error)
        if reason is None:
            raise
        sys.stderr.write(f"kpose: {reason}\n")
        return 1
    return 0


def run_lightning(args: Sequence[str] | None, *, overwrite: bool = False) -> LightningCLI:
    """Run one of Lightning's commands.

    Args:
        args: Command and arguments, those of the process when None.
        overwrite: Whether the copy of the configuration that an earlier run left may be replaced.

    Returns:
        What ran, with ``trainer``, ``model`` and ``datamodule``.

    Raises:
        SystemExit: If the arguments are wrong.
    """
    warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # frozen backbones, on purpose
    if args is not None:  # those of the process are then for someone else, such as `kpose pipeline`
        warnings.filterwarnings("ignore", message="LightningCLI's args parameter is intended to run from within")
    return CommandLine(
        Task,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        parser_kwargs={"prog": "kpose", "description": DESCRIPTION, "parser_mode": BOUNDED_YAML},
        save_config_kwargs={"overwrite": overwrite},
        args=None if args is None else list(args),
    )


def _reason(error: BaseException) -> str | None:
    """Give the line that an error about settings and files says; one of code, perhaps the user's, gives none."""
    text = str(error)
    if text.startswith("SaveConfigCallback expected"):
        return (
            f"An earlier run has left its {text.split()[2]}. Move it away, or give another "
            "--trainer.default_root_dir, or a logger, which gives each run a folder of its own."
        )
    if isinstance(error, KeyError) and "needs batch entries" in text:
        return str(error.args[0])  # the text of a KeyError is quoted
    data = Path(kpose.data.__file__).parent
    if caught := WORKER.match(text):
        raised_in = Path(SOURCES.findall(text)[-1])
        return " ".join(caught[1].split()) if raised_in.is_relative_to(data) else None
    explained = isinstance(error, MisconfigurationException | RefusedSettings) or _comes_from(error, data)
    return one_line(error) if explained else None


def _comes_from(error: BaseException, package: Path) -> bool:
    """Tell whether a file of a package has raised an error."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and Path(frames[-1].filename).is_relative_to(package)
