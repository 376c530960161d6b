"""The command line: ``kpose fit``, ``validate``, ``test`` (Lightning's), and commands of our own."""

import importlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import kpose

__all__ = ["main"]

# Commands that are not Lightning's, with their modules; each has `main(args) -> exit code`.
OWN = {
    "app": "kpose.inference.app_command",
    "pipeline": "kpose.pipeline.command",
    "predict": "kpose.inference.command",
    "template": "kpose.inference.template_command",
    "video": "kpose.video.command",
}

WRITERS = ("predict", "template", "video")  # the others leave signals to Lightning or Gradio
LIGHTNINGS = ("fit", "validate", "test")
EXPLAINED = ("-h", "--help", "--version")
USAGE = """usage: kpose COMMAND ..., with one of the commands

  fit         train a pose head: backbone, head, data and trainer from configuration files
  validate    score a checkpoint of it on the validation data
  test        score it on the test data
  pipeline    train without pose labels: cameras, shapes, heads, one after the other
  predict     photos in; cameras, meshes, pictures and a page to see them out
  video       a video in; the same with its birds' meshes, and their camera tracks, out
  app         a page in the browser to drop photos on
  template    make the mean shape of another category

kpose COMMAND --help tells the rest; kpose --version the version.
"""


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
    code: int
    command = arguments[0] if arguments else None
    if command in OWN:
        if args is None and command in WRITERS:
            signal.signal(signal.SIGTERM, _end)
        code = importlib.import_module(OWN[command]).main(arguments[1:])
    elif command is None or command in EXPLAINED or not (command in LIGHTNINGS or command.startswith("-")):
        code = _explain(command)
    else:
        # It warns about arguments given in Python beside those of the process, so the latter are left to it.
        code = importlib.import_module("kpose.training").main(None if args is None else arguments)
    if code:
        sys.exit(code)


def _end(number: int, _: object) -> NoReturn:
    """End as an interruption does, so that no half-written file stays behind."""
    sys.exit(128 + number)


def _explain(command: str | None) -> int:
    """Print the commands, or the version; what takes seconds to import is left alone."""
    if command in EXPLAINED:
        sys.stdout.write(f"kpose {kpose.__version__}\n" if command == "--version" else USAGE)
        return 0
    sys.stderr.write(USAGE if command is None else f"kpose: There is no command {command!r}.\n{USAGE}")
    return 2
