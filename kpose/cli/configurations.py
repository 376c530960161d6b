"""Configurations of classes and their arguments in YAML, as jsonargparse reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jsonargparse import ArgumentError

__all__ = ["instantiate", "parsing"]


@contextmanager
def parsing() -> Iterator[None]:
    r"""Turn what jsonargparse lets through while it parses into its own error.

    Example:
        >>> with parsing():
        ...     b"\xff".decode()
        Traceback (most recent call last):
        argparse.ArgumentError: 'utf-8' codec can't decode byte 0xff in position 0: invalid start byte
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        raise ArgumentError(None, str(error)) from error


def instantiate(parser: Any, settings: Any) -> Any:  # noqa: ANN401 - jsonargparse's own types
    """Build what parsed settings describe, by the name that the method has in this version of jsonargparse."""
    method: Any = getattr(parser, "instantiate", None) or parser.instantiate_classes  # before 4.49
    return method(settings)
