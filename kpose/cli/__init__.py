"""The command line: ``kpose COMMAND ...``."""

from kpose.cli.commands import main

__all__ = ["main"]
