"""``kpose pipeline``: all stages, from images and masks to trained pose heads."""

import json
import logging
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

import kpose.heads  # noqa: F401 - short class names in configurations resolve among classes that are imported
from kpose.cli.configuration import named_files, with_bases
from kpose.cli.interruption import let_finish
from kpose.cli.mistakes import explain
from kpose.data import CUBDataModule, SyntheticBirdsDataModule  # noqa: F401 - imports all data modules
from kpose.pipeline import Pipeline

__all__ = ["build_pipeline", "main", "parse_pipeline"]

_PARTS = frozenset({"data", "backbone"})
_DESCRIPTION = "Run all stages, from images and masks to trained pose heads. What is done is not done again."


def main(args: Sequence[str] | None = None) -> int:
    """Run a pipeline with the arguments after ``kpose pipeline``, those of the process when None.

    Returns 0; 2 if the arguments are wrong and 1 if a stage cannot be run; one line says why.
    """
    given = sys.argv[1:] if args is None else args
    files: list[Path] = []
    try:
        files = named_files(with_bases(given))
        settings = parse_pipeline(given)
    except (ArgumentError, TypeError, ValueError) as error:
        return _complain(explain(error, files), 2)
    logging.basicConfig(format="%(message)s")
    let_finish(writes=False)
    try:
        metrics = build_pipeline(settings).run()
    except (ArgumentError, OSError, ValueError, KeyError, TypeError, MisconfigurationException) as error:
        return _complain(explain(error, files), 1)
    sys.stdout.write(json.dumps(metrics, indent=2) + "\n")
    return 0


def parse_pipeline(args: Sequence[str] | None = None, *, prog: str = "kpose pipeline") -> Namespace:
    """Read the arguments of a `Pipeline` from a command line; no data are read and no backbone is loaded.

    Returns settings with class paths and arguments in the place of objects. Raises `ArgumentError` if the arguments
    are wrong, `TypeError` or `ValueError` if a class of settings refuses its values or a file is no text in UTF-8.
    """
    settings = _parser(prog).parse_args(with_bases(sys.argv[1:] if args is None else args))
    for name in ("config", "base"):
        settings.pop(name, None)
    # Settings of stages refuse wrong values when they are built; what they name is built later, by the stages.
    stages = settings.clone()
    for name in _PARTS:
        stages.pop(name)
    _parser(prog, _PARTS).instantiate(stages)
    return settings


def build_pipeline(settings: Namespace) -> Pipeline:
    """Build a pipeline from the settings of `parse_pipeline`.

    The data come first: their files may be missing, and no backbone has been loaded then. A backbone with random
    weights has those of the seed, the same ones in every run.
    """
    data = instantiate_data(settings)
    Pipeline.check_data(data)
    torch.manual_seed(settings.seed)
    whole = settings.clone()
    whole.data = data
    parts = _parser("kpose pipeline").instantiate(whole)
    return Pipeline(**{name: part for name, part in parts.as_dict().items() if name not in ("config", "base")})


def instantiate_data(settings: Namespace) -> Any:  # noqa: ANN401
    """Build the data module alone."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=LightningDataModule)
    only = settings.clone()
    for name in set(vars(only)) - {"data"}:
        only.pop(name)
    return parser.instantiate(only).data


def _parser(prog: str, skip: Set[str] = frozenset()) -> ArgumentParser:
    parser = ArgumentParser(prog=prog, description=_DESCRIPTION, exit_on_error=False)
    parser.add_argument("--config", action="config", help="Configuration file; several are layered.")
    parser.add_argument("--base", type=str, help="In a file: the one beside it that it is layered over.")
    parser.add_class_arguments(Pipeline, as_group=False, skip=set(skip))
    return parser


def _complain(line: str, code: int) -> int:
    sys.stderr.write(f"kpose pipeline: {line}\n")
    return code
