"""The commands, and the one that the arguments name."""

import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import kpose

__all__ = ["main"]

# Modules with a function `main(args) -> exit code`.
COMMANDS = {
    "fit": "kpose.cli.lightning",
    "validate": "kpose.cli.lightning",
    "test": "kpose.cli.lightning",
    "pipeline": "kpose.cli.pipeline",
    "predict": "kpose.cli.predict",
    "video": "kpose.cli.video",
    "app": "kpose.cli.app",
    "template": "kpose.cli.template",
}
LIGHTNINGS = ("fit", "validate", "test")
WRITERS = ("predict", "template", "video")  # the others leave signals to Lightning or Gradio
USAGE = """usage: kpose COMMAND ..., with one of the commands

  fit         train a pose head: backbone, head, data and trainer from configuration files
  validate    score a checkpoint of it on the validation data
  test        score it on the test data
  pipeline    train without pose labels: cameras, shapes, heads, one after the other
  predict     photos in; cameras, meshes, pictures and a page to see them out
  video       a video in; the same with its birds' meshes, and their camera tracks, out
  app         a page in the browser to drop photos on
  template    make the mean shape of another category

kpose COMMAND --help lists its options; kpose --version prints the version.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        args: Command and arguments, those of the process when None.

    Raises:
        SystemExit: If the arguments are wrong, or the command failed.

    Example:
        Train a head on a data set, both named by layered configuration files::

            kpose fit --config base.yaml --config head/quaternion.yaml --config data/synthetic.yaml
    """
    # A console script does not see the user's own modules in the working directory; `python -m kpose` does.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    arguments = list(sys.argv[1:] if args is None else args)
    command = arguments[0] if arguments else None
    # Lightning's command line reads options before the command, too.
    name = LIGHTNINGS[0] if command and command.startswith("--config") else command
    if name not in COMMANDS:
        code = _explain(command)
    else:
        if args is None and name in WRITERS:
            signal.signal(signal.SIGTERM, _end)
        code = importlib.import_module(COMMANDS[name]).main(arguments if name in LIGHTNINGS else arguments[1:])
    if code:
        sys.exit(code)


def _end(number: int, _: object) -> NoReturn:
    """End as an interruption does, so that no half-written file stays behind."""
    sys.exit(128 + number)


def _explain(command: str | None) -> int:
    """Print the commands, or the version."""
    if command in ("-h", "--help", "--version"):
        sys.stdout.write(f"kpose {kpose.__version__}\n" if command == "--version" else USAGE)
        return 0
    sys.stderr.write(USAGE if command is None else f"kpose: There is no command {command!r}.\n{USAGE}")
    return 2
