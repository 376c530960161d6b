"""Train pose heads on the same cameras with the same budget; write Table 1 with the paper's rows beside ours."""

import argparse
import logging
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

from kpose.configuration_files import BOUNDED_YAML, parsing
from kpose.messages import one_line
from kpose.pipeline import Pipeline
from kpose.pipeline.command import pipeline_arguments

from configurations import FILES, configuration
from table1_run import PAPER, Table1

__all__ = ["main"]

PROG = "table1.py"


def main(args: Sequence[str] | None = None) -> int:
    """Reproduce Table 1.

    Args:
        args: Arguments after the name of the script; those of the process when None.

    Returns:
        0; 2 if the arguments are wrong and 1 if a stage cannot be run; one line says why.

    Raises:
        SystemExit: If the arguments are wrong (code 2), or ask for help.
    """
    given = list(sys.argv[1:] if args is None else args)
    options, further = _parser().parse_known_args(given)
    try:
        arguments = pipeline_arguments([*_pipeline_options(options), *further], prog=PROG)
        arguments["heads"] |= _heads(options.heads, taken={*PAPER, *arguments["heads"]})
    except (ArgumentError, FileNotFoundError, ValueError) as error:
        return _complain(error, 2)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("reproduction").setLevel(logging.INFO)
    try:
        table = Table1(
            Pipeline(**arguments),
            seeds=options.seeds,
            command=("python", "examples/reproduction/table1.py", *given),
        )
        table.run()
    except (OSError, ValueError, KeyError, TypeError, MisconfigurationException) as error:
        return _complain(error, 1)
    sys.stdout.write((options.out / "results.md").read_text(encoding="utf-8"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG,
        description=f"{__doc__} Further arguments are those of `kpose pipeline` and change its configuration, as "
        "--pose.epochs=5 does. Run the same command again to go on after a kill.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--data", required=True, help=f"{', '.join(FILES)}, or a configuration file of `kpose pipeline`"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of all results")
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the photographs")
    parser.add_argument("--backbone", metavar="NAME", help="name or folder of a pretrained backbone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument(
        "--heads", type=Path, metavar="FILE", help="YAML of more heads, by name: class_path, init_args"
    )
    return parser


def _pipeline_options(options: argparse.Namespace) -> list[str]:
    words = ["--config", str(configuration(options.data)), "--out", str(options.out)]
    if options.root is not None:
        words += ["--data.init_args.root", str(options.root)]
    if options.backbone is not None:
        words += ["--backbone.init_args.name", options.backbone]
    return words


def _heads(file: Path | None, taken: Set[str]) -> dict[str, Any]:
    if file is None:
        return {}
    parser = ArgumentParser(prog=PROG, exit_on_error=False, parser_mode=BOUNDED_YAML)
    parser.add_argument("--heads", type=dict[str, dict], enable_path=True)  # type: ignore[type-arg]  # taken as it is
    with parsing():
        heads: dict[str, Any] = parser.parse_args(["--heads", str(file)]).heads
    heads = {name: head for name, head in heads.items() if name != "__path__"}
    if double := sorted(heads.keys() & taken):
        raise ValueError(
            f"--heads needs names that no head of the table has; got {', '.join(double)}. Rename them."
        )
    return heads


def _complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"{PROG}: {one_line(error)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
