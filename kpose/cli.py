"""The command line: ``kpose fit``, ``validate``, ``test`` (Lightning's), and commands of our own."""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["main"]

# Commands that are not Lightning's, with their modules; each has `main(args) -> exit code`.
OWN = {
    "app": "kpose.inference.app_command",
    "pipeline": "kpose.pipeline.command",
    "predict": "kpose.inference.command",
    "reproduce": "kpose.reproduction.command",
    "template": "kpose.inference.template_command",
    "video": "kpose.video.command",
}


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
    # Here, as Lightning takes seconds to import that the other commands can do without.
    from kpose.training import run_lightning

    # It warns about arguments given in Python beside those of the process, so the latter are left to it.
    run_lightning(None if args is None else arguments)
