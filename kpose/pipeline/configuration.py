"""Parts that are given as configurations: class path and arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from kpose.configuration_files import instantiate
from kpose.files import file_digest

__all__ = ["build", "contents"]


def build(kind: Any, config: Mapping[str, Any], name: str = "object") -> Any:  # noqa: ANN401
    """Build an object from its class path and arguments, as the command line does.

    Args:
        kind: What it has to be: a class, or a callable that gives one.
        config: ``class_path`` and ``init_args``.
        name: What the configuration is called in messages.

    Returns:
        The object.

    Raises:
        ValueError: If there is no such class, or its arguments are wrong.

    Example:
        >>> from kpose.backbones import Backbone
        >>> build(Backbone, {"class_path": "kpose.backbones.TinyBackbone", "init_args": {"width": 8}}).spec.strides
        (4, 8, 16, 32)
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument(f"--{name}", type=kind)
    place: dict[str, Any] = dict(config)
    for key in reversed(name.split(".")):
        place = {key: place}
    try:
        return instantiate(parser, parser.parse_object(place))[name]
    except ArgumentError as error:
        raise ValueError(str(error)) from error


def contents(data: Any, template: Path | None) -> dict[str, str]:  # noqa: ANN401 - any data module
    """Digest the files that settings only name, as far as that can be done: new ones give new results.

    Args:
        data: Data module; one with a ``fingerprint`` of its files says so.
        template: File of the mean shape, if there is one.

    Returns:
        Digests by name.
    """
    found = {}
    if template is not None:
        found["template_content"] = file_digest(template)[:16]
    if files := getattr(data, "fingerprint", ""):
        found["data_content"] = files
    return found
