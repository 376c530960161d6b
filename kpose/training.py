"""Lightning's command line: ``kpose fit``, ``validate`` and ``test``."""

import warnings
from collections.abc import Sequence

from jsonargparse import ArgumentError
from pytorch_lightning import LightningDataModule
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

# Short class names on the command line resolve among classes that have been imported.
import kpose.callbacks
import kpose.data  # noqa: F401
from kpose.configuration_files import BOUNDED_YAML, parsing
from kpose.tasks import Task

__all__ = ["run_lightning"]

DESCRIPTION = """Camera pose from single photos: train, validate and test pose heads here. Other commands, each
with a --help of its own: `kpose pipeline` (all stages of training), `predict` (photos), `video`, `app` (photos in
a browser), `template` (the mean shape of another category) and `reproduce` (the paper's tables)."""


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
