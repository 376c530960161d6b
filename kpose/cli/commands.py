"""The commands, and the one that the arguments name."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

import kpose
from kpose.cli.interruption import INTERRUPTED, end_at_once

__all__ = ["main"]

# Modules with a function `main(args) -> exit code`, and what it does.
COMMANDS = {
    "fit": ("kpose.cli.lightning", "train a pose head: backbone, head, data and trainer from configuration files"),
    "validate": ("kpose.cli.lightning", "score a checkpoint of it on the validation data"),
    "test": ("kpose.cli.lightning", "score it on the test data"),
    "pipeline": ("kpose.cli.pipeline", "train without pose labels: cameras, shapes, heads, one after the other"),
    "predict": ("kpose.cli.predict", "predict cameras and meshes from photos, with pictures and a page of them"),
    "masks": (
        "kpose.cli.masks",
        "find the object in photos and write masks, to train a category of your own",
    ),
    "video": ("kpose.cli.video", "follow the birds of a video: their camera tracks, and a video with their meshes"),
    "app": ("kpose.cli.app", "serve a page to drop photos on"),
    "template": ("kpose.cli.template", "make the mean shape of another category"),
}
LIGHTNINGS = ("fit", "validate", "test")
CONFIGURED = (*LIGHTNINGS, "pipeline")
LIST = "\n".join(f"  {name:<10}  {text}" for name, (_, text) in COMMANDS.items())
USAGE = f"""usage: kpose COMMAND ..., with one of the commands

{LIST}

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
    if args is None:
        end_at_once()
    try:
        code = _run(list(sys.argv[1:] if args is None else args))
    except KeyboardInterrupt:
        code = _interrupted()
    except SystemExit as end:
        if not isinstance(end.__context__, KeyboardInterrupt):
            raise
        code = _interrupted()  # which Lightning makes an exit code of 1 of
    finally:
        if args is None:
            end_at_once()
    if code:
        sys.exit(code)


def _run(arguments: list[str]) -> int:
    # A console script does not see the user's own modules in the working directory; `python -m kpose` does.
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    command = arguments[0] if arguments else None
    # Lightning's command line reads options before the command, too.
    name = next((word for word in arguments if word in LIGHTNINGS), LIGHTNINGS[0])
    if command is None or not command.startswith(("--config", "-c")):
        name = command or ""
    if name not in COMMANDS:
        return _explain(command)
    module, text = COMMANDS[name]
    given = arguments if name in LIGHTNINGS else arguments[1:]
    if name in CONFIGURED:
        from kpose.cli.configuration import answer

        code = answer(name, text, given)
        if code is not None:
            return code
    exit_code: int = importlib.import_module(module).main(given)
    return exit_code


def _interrupted() -> int:
    sys.stderr.write("kpose: Interrupted.\n")
    return INTERRUPTED


def _explain(command: str | None) -> int:
    """Print the commands, or the version."""
    if command in ("-h", "--help", "--version"):
        sys.stdout.write(f"kpose {kpose.__version__}\n" if command == "--version" else USAGE)
        return 0
    sys.stderr.write(USAGE if command is None else f"kpose: There is no command {command!r}.\n{USAGE}")
    return 2
