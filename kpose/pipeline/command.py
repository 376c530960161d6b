"""``kpose pipeline``: all stages, from images and masks to trained pose heads."""

import importlib
import inspect
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]

import kpose.heads  # noqa: F401 - short class names in configurations resolve among classes that are imported
from kpose.backbones import Backbone
from kpose.configuration_files import instantiate, parsing
from kpose.data import CUBDataModule, SyntheticBirdsDataModule  # noqa: F401 - imports all data modules
from kpose.messages import one_line
from kpose.pipeline.run import Pipeline

__all__ = ["main", "pipeline_arguments"]

PARTS = {"data": LightningDataModule, "backbone": Backbone}  # given to the pipeline as configurations
DESCRIPTION = "Run all stages, from images and masks to trained pose heads. What is done is not done again."
TITLES = {"data": "images and masks, a data module", "backbone": "what turns images into feature maps"}


def main(args: Sequence[str] | None = None) -> int:
    """Run a pipeline.

    Args:
        args: Arguments after ``kpose pipeline``; those of the process when None.

    Returns:
        0; 2 if the arguments are wrong and 1 if a stage cannot be run; one line says why.

    Raises:
        SystemExit: If the arguments ask for help.
    """
    try:
        arguments = pipeline_arguments(args)
    except ArgumentError as error:
        return _complain(error, 2)
    logging.basicConfig(format="%(message)s")
    try:
        metrics = Pipeline(**arguments).run()
    except (OSError, ValueError, KeyError, TypeError, MisconfigurationException) as error:
        return _complain(error, 1)
    sys.stdout.write(json.dumps(metrics, indent=2) + "\n")
    return 0


def pipeline_arguments(args: Sequence[str] | None = None, *, prog: str = "kpose pipeline") -> dict[str, Any]:
    """Read the arguments of a `Pipeline` from a command line.

    Args:
        args: Arguments of the command; those of the process when None.
        prog: Name of the command in messages.

    Returns:
        What `Pipeline` is called with.

    Raises:
        ArgumentError: If the arguments are wrong.
        SystemExit: If they ask for help.
    """
    parser = ArgumentParser(prog=prog, description=DESCRIPTION, exit_on_error=False)
    parser.add_argument("--config", action="config", help="Configuration file; several are layered.")
    parser.add_argument("--base", type=str, help="In a file: the one beside it that it is layered over.")
    for name, kind in PARTS.items():
        parser.add_subclass_arguments(kind, name, required=True, instantiate=False)
        (parser.groups or {})[name].title = TITLES[name]  # else the first line of the class's documentation
    parser.add_class_arguments(Pipeline, as_group=False, skip=set(PARTS))
    with parsing():
        parsed = parser.parse_args(_with_bases(sys.argv[1:] if args is None else args))
        arguments: dict[str, Any] = instantiate(parser, parsed).as_dict()
    for name in ("config", "base"):
        arguments.pop(name, None)
    return arguments | _configurations(parser, parsed)


def _with_bases(args: Sequence[str]) -> list[str]:
    """Put before each configuration file those that it is layered over."""
    whole: list[str] = []
    for place, word in enumerate(args):
        if word.startswith("--config="):
            whole += [f"--config={base}" for base in _bases(Path(word.partition("=")[2]))]
        elif word == "--config" and place + 1 < len(args):
            whole += [f"--config={base}" for base in _bases(Path(args[place + 1]))]
        whole.append(word)
    return whole


def _bases(path: Path, known: tuple[Path, ...] = ()) -> list[Path]:
    """List what a file is layered over, the lowest first; what cannot be read is told by the parser."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return []
    name = content.get("base") if isinstance(content, dict) else None
    if not isinstance(name, str) or (base := path.parent / name) in known:
        return []
    return [*_bases(base, (*known, base)), base]


def _complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"kpose pipeline: {one_line(error)}\n")
    return code


def _configurations(parser: ArgumentParser, parsed: Namespace) -> dict[str, Any]:
    """Give the configurations of the parts as they would be written: short class names, no argument's default."""
    plain = json.loads(parser.dump(parsed, format="json", skip_validation=True))
    found = {}
    for name in PARTS:
        module, _, kind = plain[name]["class_path"].rpartition(".")
        parameters = inspect.signature(getattr(importlib.import_module(module), kind)).parameters
        defaults = {key: json.dumps(parameter.default, default=str) for key, parameter in parameters.items()}
        given = plain[name].get("init_args", {})
        given = {key: value for key, value in given.items() if json.dumps(value) != defaults.get(key)}
        short = kind if module.startswith("kpose.") else f"{module}.{kind}"
        found[name] = {"class_path": short, **({"init_args": given} if given else {})}
    return found
