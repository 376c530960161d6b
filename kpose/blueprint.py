"""What a network is made of, in plain values: enough to build it again where its files are gone, and nothing else.

A blueprint names classes, and building imports them: kpose's own, and others only where their modules are named as
trusted, so that a blueprint of a stranger runs nothing of the stranger's.
"""

import importlib
import re
import tempfile
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from jsonargparse import ArgumentParser
from torch import Tensor

import kpose
from kpose.configuration_files import BOUNDED_YAML, instantiate
from kpose.messages import one_line
from kpose.network import PoseNetwork
from kpose.structures import Template
from kpose.templates import save_template

__all__ = ["Blueprint", "build_network", "draw_blueprint"]

FORMAT = 1
PARTS = ("backbone", "head", "reconstructor")
OWN_MODULES = ("kpose.backbones", "kpose.heads", "kpose.losses", "kpose.reconstruction")
IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
# What jsonargparse and the classes themselves raise while a network is built.
BUILD_ERRORS = (
    ArgumentError, ImportError, AttributeError, TypeError, LookupError, ValueError, RuntimeError, OSError,
)  # fmt: skip


class Blueprint(TypedDict):
    """Description of a `PoseNetwork` in plain values and tensors."""

    format: int
    """Number of this layout."""
    version: str
    """Version of kpose that wrote it."""
    image_size: int | None
    """Side of the crops of training, in pixels; none where it is not known."""
    network: dict[str, Any]
    """Arguments of `PoseNetwork`: class paths with their own arguments."""
    templates: dict[str, dict[str, Any]]
    """Fields of the templates of the ``network`` and, where it is built on one, of the ``head``."""


def draw_blueprint(
    network: PoseNetwork, arguments: Mapping[str, Any], *, image_size: int | None = None
) -> Blueprint | None:
    """Describe a network so that it can be built again without the files that it was built from.

    Args:
        network: Network.
        arguments: What it was built from, by class path, as the command line saves it.
        image_size: Side of the crops of training, in pixels.

    Returns:
        Blueprint, or None where the arguments do not name the classes, as of a network that was built in Python.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.heads import QuaternionHead
        >>> names = {"backbone": {"class_path": "kpose.backbones.TinyBackbone", "init_args": {"width": 8}},
        ...          "head": {"class_path": "kpose.heads.QuaternionHead"}}
        >>> blueprint = draw_blueprint(PoseNetwork(TinyBackbone(width=8), QuaternionHead), names, image_size=64)
        >>> type(build_network(blueprint).head).__name__
        'QuaternionHead'
    """
    parts = {name: arguments[name] for name in PARTS if _is_class(arguments.get(name))}
    if any(name not in parts for name in PARTS if getattr(network, name) is not None):
        return None
    backbone = parts["backbone"]
    offline = network.backbone.offline_arguments()
    parts["backbone"] = {**backbone, "init_args": {**backbone.get("init_args", {}), **offline}}
    templates = {"network": _fields(network.template)}
    if network.head.template is not None:
        templates["head"] = _fields(network.head.template)
        given = parts["head"].get("init_args", {})
        parts["head"] = {**parts["head"], "init_args": {k: v for k, v in given.items() if k != "template"}}
    return Blueprint(
        format=FORMAT, version=kpose.__version__, image_size=image_size, network=parts, templates=templates
    )


def build_network(blueprint: Blueprint, *, trusted_modules: Sequence[str] = ()) -> PoseNetwork:
    """Build the network that a blueprint describes, with weights that are still to be loaded.

    Args:
        blueprint: What `draw_blueprint` gave.
        trusted_modules: Modules and packages beside kpose whose classes may be imported.

    Returns:
        Network on the CPU.

    Raises:
        ValueError: If the blueprint is of a newer kpose, names a class that is not trusted, or cannot be built; one
            line says why.
    """
    layout = blueprint.get("format")
    if not isinstance(layout, int) or layout > FORMAT:
        raise ValueError(
            f"It was written by kpose {blueprint.get('version')}, which is newer than this one, "
            f"{kpose.__version__}. Update kpose."
        )
    parts = {name: dict(part) for name, part in blueprint["network"].items() if name in PARTS and _is_class(part)}
    try:
        for path in _import_paths(parts):
            _check_class(path, (*OWN_MODULES, *trusted_modules))
        with tempfile.TemporaryDirectory() as folder:
            files = {name: _save(fields, Path(folder), name) for name, fields in blueprint["templates"].items()}
            if "head" in files:
                parts["head"]["init_args"] = {**parts["head"].get("init_args", {}), "template": files["head"]}
            return _instantiate({**parts, "template": files["network"]})
    except BUILD_ERRORS as error:
        reason = one_line(_root(error))[:300]
        raise ValueError(f"Its network, of kpose {blueprint.get('version')}, cannot be built: {reason}") from error


def _instantiate(arguments: dict[str, Any]) -> PoseNetwork:
    parser = ArgumentParser(exit_on_error=False, parser_mode=BOUNDED_YAML)
    parser.add_class_arguments(PoseNetwork, "network")
    settings = parser.parse_object({"network": arguments})
    network: PoseNetwork = instantiate(parser, settings)["network"]
    return network


def _is_class(part: object) -> bool:
    return isinstance(part, Mapping) and isinstance(part.get("class_path"), str)


def _fields(template: Template) -> dict[str, Any]:
    fields = {k: v.detach().cpu() if isinstance(v, Tensor) else list(v) for k, v in template._asdict().items()}
    return fields


def _save(fields: Mapping[str, Any], folder: Path, name: str) -> str:
    path = folder / f"{name}.safetensors"
    save_template(Template(**{**fields, "part_names": tuple(fields["part_names"])}), path)
    return str(path)


def _import_paths(value: object) -> Iterator[str]:
    """Give everything that could be imported: strings of names with dots between them."""
    if isinstance(value, str):
        if IMPORT_PATH.fullmatch(value):
            yield value
    elif isinstance(value, Mapping):
        if "class_path" in value and not IMPORT_PATH.fullmatch(str(value["class_path"])):
            raise ValueError(f"{value['class_path']!r} is no class path with its module.")
        for inner in value.values():
            yield from _import_paths(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _import_paths(inner)


def _check_class(path: str, trusted: Sequence[str]) -> None:
    """See that a class comes from a trusted module; only such a module is imported for it."""
    module, _, name = path.rpartition(".")
    found: object = None
    if _is_within(module, trusted):
        found = getattr(importlib.import_module(module), name)
    # A trusted module has names of others as well, such as `torch`.
    if not isinstance(found, type) or not _is_within(found.__module__, trusted):
        raise ValueError(
            f"{path} is no class of kpose, and importing it runs its module. If you trust it, name the module in "
            "trusted_modules (--trust MODULE on the command line)."
        )


def _is_within(module: str, packages: Sequence[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _root(error: BaseException) -> BaseException:
    """Give the exception that the others were raised over."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error
