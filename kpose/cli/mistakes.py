"""What jsonargparse says of wrong settings, on one line, with their file and what may have been meant."""

import re
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from jsonargparse import ArgumentParser

from kpose._messages import one_line
from kpose.cli.configuration import suggestion

__all__ = ["explain"]

_WITH_CLASSES = (
    "kpose.backbones", "kpose.callbacks", "kpose.data", "kpose.heads", "kpose.losses", "kpose.pipeline",
    "kpose.reconstruction", "kpose.rendering", "kpose.tasks", "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers", "torch.optim", "torch.optim.lr_scheduler",
)  # fmt: skip
# Parts of the text that say how jsonargparse tried, and what it was given as a whole.
_NOISE = re.compile(
    "|".join(
        (
            r"Does not validate against any of the Union subtypes Subtypes: .*? Errors: ",
            r"- Expected a path but .*? invalid ",
            r"- Expected a <class 'NoneType'>",
            r"Type \S+ expects a function or a callable class: ",
            r"Type [\w.]+\[\[.*?\], .*?\] expects a function .*? class: ",
            r"Problem with given ",
            r"Given value type: <class '[\w.]+'>",
            r"(Got|Given) value: (\w+\(|[\[{]).*",
        )
    )
)


def explain(error: Exception, files: Sequence[Path]) -> str:
    """Return what is wrong in settings.

    Args:
        error: What a parser raised.
        files: Files that it has read, in their order.
    """
    text = one_line(error)
    keys = re.findall(r'Parser key "([\w.]+)"', text)
    if found := re.search(r"Expected a dot import path string: (\w+)|module '\S+' has no attribute '(\w+)'", text):
        name = found[1] or found[2]
        return f"{_file_of(name, files)}there is no class {name}{suggestion(name, _class_names())}"
    if found := re.search(r"Option '([\w.]+)' is not accepted", text):
        name = found[1].rpartition(".")[2]
        path = re.search(r"Got value: Namespace\(class_path='([\w.]+)'", text) or _last_class(text[: found.start()])
        if path is not None:
            owner = path[1].rpartition(".")[2]
            return f"{_file_of(name, files)}{owner} has no argument {name}{suggestion(name, _arguments(path[1]))}"
    if found := re.search(r"the following arguments are required: (\w+)", text):
        path = _last_class(text)
        if keys and path is not None:
            owner, name = path[1].rpartition(".")[2], ".".join((*keys, found[1]))
            return f"{_file_of(owner, files)}{owner} needs {found[1]}; give it by --{name}=VALUE or in a file"
    place = _file_of(keys[-1].rpartition(".")[2], files) if keys else ""
    return place + " ".join(_NOISE.sub("", text).split())


def _last_class(text: str) -> re.Match[str] | None:
    return next(reversed([*re.finditer(r"class_path '([\w.]+)'", text)]), None)


def _file_of(name: str, files: Sequence[Path]) -> str:
    """Return the last file with a name, as the beginning of a line; empty if it is in none."""
    for path in reversed(files):
        if re.search(rf"\b{re.escape(name)}\b", path.read_text(encoding="utf-8")):
            return f"{path}: "
    return ""


def _class_names() -> set[str]:
    return {name for module in map(import_module, _WITH_CLASSES) for name in module.__all__ if name[0].isupper()}


def _arguments(path: str) -> set[str]:
    module, _, name = path.rpartition(".")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(getattr(import_module(module), name), "it", fail_untyped=False)
    return {key.split(".")[1] for key in parser.get_defaults().as_flat().__dict__ if "." in key}
