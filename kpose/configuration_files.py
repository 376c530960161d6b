"""Configurations of classes and their arguments, in YAML, as they are read, checked and made into objects.

A parser with ``parser_mode=BOUNDED_YAML`` reads the same files as jsonargparse does, but for those that would hang
or break it: nested without end, or grown without bounds by aliases.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from jsonargparse import ArgumentError, get_loader, set_loader

__all__ = ["BOUNDED_YAML", "instantiate", "load_yaml", "parsing"]

BOUNDED_YAML = "kpose"
DEEPEST = 50  # levels; jsonargparse recurses several calls for each
MOST_VALUES = 20_000  # after aliases are expanded, as jsonargparse goes through them


def load_yaml(text: str) -> Any:  # noqa: ANN401 - whatever is written
    """Read YAML of bounded size.

    Args:
        text: YAML.

    Returns:
        Plain values.

    Raises:
        YAMLError: If it is no YAML, nested in more than 50 levels, or holds more than 20,000 values, those of
            aliases included; if an alias stands within what it names, or a number is too long.

    Example:
        >>> load_yaml("head: {width: 8}")
        {'head': {'width': 8}}
        >>> load_yaml("a: &a [*a]")
        Traceback (most recent call last):
        yaml.error.YAMLError: Configurations need aliases of what is complete before them; *a is not.
    """
    _check(text)
    try:
        return get_loader("yaml")(text)
    except (ValueError, TypeError) as error:  # of integers with thousands of digits, keys that cannot be keys
        raise yaml.YAMLError(str(error)) from error


# Under a name of its own, so that other parsers of a program that imports kpose read as before.
set_loader(BOUNDED_YAML, load_yaml, (yaml.YAMLError,))


def _check(text: str) -> None:
    """Go through the events of YAML, which takes no recursion, and count."""
    values: int = 0
    sizes: dict[str, int] = {}  # by anchor
    opened: list[tuple[str | None, int]] = []  # anchors of the collections around, and the count before each
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise yaml.YAMLError(
                    f"Configurations need aliases of what is complete before them; *{event.anchor} is not."
                )
            values += sizes[event.anchor]
        elif isinstance(event, yaml.ScalarEvent):
            values += 1
            _note(sizes, event.anchor, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, values))
            values += 1
            sizes.pop(event.anchor, None)  # a name that is used again means the new one, which is not complete yet
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            _note(sizes, anchor, values - before)
        if len(opened) > DEEPEST or values > MOST_VALUES:
            raise yaml.YAMLError(
                f"Configurations need at most {DEEPEST} levels and {MOST_VALUES} values; here are more. Shorten it."
            )


def _note(sizes: dict[str, int], anchor: str | None, size: int) -> None:
    if anchor is not None:
        sizes[anchor] = size


@contextmanager
def parsing() -> Iterator[None]:
    r"""Turn what jsonargparse lets through while it parses into its own error.

    Raises:
        ArgumentError: If a file is no text in UTF-8, or a class of settings refuses its values.

    Example:
        >>> with parsing():
        ...     b"\xff".decode()
        Traceback (most recent call last):
        argparse.ArgumentError: A configuration needs to be text in UTF-8; this is not: ...
    """
    try:
        yield
    except UnicodeDecodeError as error:
        raise ArgumentError(None, f"A configuration needs to be text in UTF-8; this is not: {error}") from error
    except (TypeError, ValueError) as error:
        raise ArgumentError(None, str(error)) from error


def instantiate(parser: Any, settings: Any) -> Any:  # noqa: ANN401 - jsonargparse's own types
    """Build what parsed settings describe, by the name that the method has in this version of jsonargparse.

    Args:
        parser: Parser.
        settings: What it has parsed.

    Returns:
        Settings with objects in the place of class paths.
    """
    method: Any = getattr(parser, "instantiate", None) or parser.instantiate_classes  # before 4.49
    return method(settings)
