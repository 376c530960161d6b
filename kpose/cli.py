"""The command line: ``kpose fit``, ``validate``, ``test`` (Lightning's), and commands of our own."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from pytorch_lightning import LightningDataModule
from pytorch_lightning.cli import LightningCLI

# Short class names on the command line resolve among classes that have been imported.
import kpose.callbacks
import kpose.data  # noqa: F401
from kpose.tasks import Task

__all__ = ["main", "run_lightning"]

DESCRIPTION = """Camera pose from single photos: train, validate and test pose heads here;
`kpose predict --help` tells how to predict the poses of photo files, `kpose app --help` how to do so in a browser,
`kpose template --help` how to make the mean shape of another category."""

# Commands that are not Lightning's, with their modules; each has `main(args) -> exit code`.
OWN = {
    "app": "kpose.inference.app_command",
    "pipeline": "kpose.pipeline.command",
    "predict": "kpose.inference.command",
    "reproduce": "kpose.reproduction.command",
    "template": "kpose.inference.template_command",
    "video": "kpose.video.command",
}


class CommandLine(LightningCLI):
    """Lightning's command line without its ``predict``, which ours replaces."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Name the commands that are Lightning's."""
        return {k: v for k, v in LightningCLI.subcommands().items() if k != "predict"}


def main(args: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        args: Command and arguments, those of the process when None.

    Raises:
        SystemExit: If the arguments are wrong, or a command of our own failed.

    Example:
        Train a head on a data set, both named by layered configuration files::

            kpose fit --config base.yaml --config head/quaternion.yaml --config data/synthetic.yaml
    """
    # A console script does not see the user's own modules in the working directory; `python -m kpose` does.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    arguments = list(sys.argv[1:] if args is None else args)
    if arguments and arguments[0] in OWN:
        code: int = importlib.import_module(OWN[arguments[0]]).main(arguments[1:])
        if code:
            sys.exit(code)
        return
    # Lightning warns about arguments given in Python beside those of the process, so the latter are left to it.
    run_lightning(None if args is None else arguments)


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
        parser_kwargs={"prog": "kpose", "description": DESCRIPTION},
        save_config_kwargs={"overwrite": overwrite},
        args=None if args is None else list(args),
    )
