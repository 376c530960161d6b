"""``kpose pipeline``: all stages, from images and masks to trained pose heads."""

import json
import logging
import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

import kpose.backbones
import kpose.data
import kpose.heads  # noqa: F401 - short class names in configurations resolve among classes that are imported
from kpose.pipeline.run import Pipeline

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """Run a pipeline.

    Args:
        args: Arguments after ``kpose pipeline``; those of the process when None.

    Returns:
        0, or 1 if a stage cannot be run; one line says why.

    Raises:
        SystemExit: If the arguments are wrong (code 2), or ask for help.
    """
    parser = ArgumentParser(prog="kpose pipeline", description=__doc__)
    parser.add_argument("--config", action="config", help="Configuration file; several are layered.")
    parser.add_class_arguments(Pipeline, as_group=False)
    parsed = parser.parse_args(None if args is None else list(args))
    arguments = parser.instantiate_classes(parsed).as_dict()
    arguments.pop("config", None)
    logging.basicConfig(format="%(message)s")
    try:
        metrics = Pipeline(**arguments).run()
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"kpose pipeline: {' '.join(str(error).split())}\n")
        return 1
    sys.stdout.write(json.dumps(metrics, indent=2) + "\n")
    return 0
