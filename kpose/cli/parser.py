"""Command lines of typed functions: the signature names the options, the docstring explains them."""

import argparse
import dataclasses
import inspect
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser
from tqdm.auto import tqdm

from kpose._messages import one_line
from kpose.cli.interruption import INTERRUPTED

__all__ = ["ArgumentError", "report", "run"]

# What files, options and the machine may be to blame for; torch asserts that CUDA is there.
FAULTS = (OSError, ValueError, RuntimeError, MemoryError, ImportError, AssertionError)


def run(command: Callable[..., int], args: Sequence[str], **forms: dict[str, Any]) -> int:
    """Run a function as a command.

    A parameter is an option: ``whole_frame`` is ``--whole-frame``. Booleans are flags, a tuple takes as many words,
    and a list may be given several times. The fields of a parameter that is a dataclass are options of their own.
    ``forms`` are settings of argparse that a type does not tell, by parameter; with ``positional`` it is no option
    but takes so many words (``nargs``). A command named like a package of kpose, which jsonargparse would import,
    has an underscore after its name. Returns the command's exit code: 2 for wrong arguments, 1 if a file or an
    option cannot be used, 130 after an interruption; one line on standard error says why.
    """
    prog = f"kpose {command.__name__.rstrip('_')}"
    try:
        return command(**_CommandParser(command, prog, forms).values(args))
    except ArgumentError as error:
        line, code = f"{one_line(error)} ({prog} --help lists all options)", 2
    except KeyboardInterrupt:
        line, code = "Interrupted.", INTERRUPTED
    except FAULTS as error:
        line, code = one_line(error), 1
    sys.stderr.write(f"{prog}: {line}\n")
    return code


def report(line: str) -> None:
    """Write a line to standard error, above the progress bar."""
    tqdm.write(line, file=sys.stderr)


class _CommandParser(ArgumentParser):
    """Parser of a function's arguments, in the form that users of a shell expect."""

    def __init__(self, command: Callable[..., int], prog: str, forms: Mapping[str, dict[str, Any]]) -> None:
        self._forms = forms
        self._hints: dict[str, Any] = {}
        description = (inspect.getdoc(command) or "").partition("\n\nArgs:")[0]
        plain = argparse.HelpFormatter
        super().__init__(prog=prog, description=description, formatter_class=plain, exit_on_error=False)
        hints = get_type_hints(command)
        self._groups: dict[str, Any] = {k: hint for k, hint in hints.items() if dataclasses.is_dataclass(hint)}
        for part in (command, *self._groups.values()):
            self._hints = get_type_hints(part)
            self.add_function_arguments(part, as_group=False, skip=set(self._groups))

    def add_argument(self, *names: str, **settings: Any) -> Any:  # noqa: ANN401 - as jsonargparse does
        """Add an argument, one of the function's in its form."""
        name = names[0].lstrip("-")
        if (hint := self._hints.get(name)) is not None:
            settings = {key: settings[key] for key in ("help", "default", "required") if key in settings}
            settings |= _form(hint) | self._forms.get(name, {})
            names = (f"--{name.replace('_', '-')}",)
            if "positional" in settings:
                names, settings["nargs"] = (name,), settings.pop("positional")
                settings.pop("required", None)
        return super().add_argument(*names, **settings)

    def values(self, args: Sequence[str]) -> dict[str, Any]:
        """Read the arguments of the function."""
        values = self.parse_args(list(args)).as_dict()
        for name, group in self._groups.items():
            fields = {field.name: values.pop(field.name) for field in dataclasses.fields(group)}
            try:
                values[name] = group(**fields)
            except ValueError as error:
                raise ArgumentError(None, str(error)) from error
        return values


def _form(hint: Any) -> dict[str, Any]:  # noqa: ANN401 - any type
    """Return how argparse reads a type."""
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
    if hint is bool:
        return {"action": "store_true"}
    if get_origin(hint) is Literal:
        return {"choices": get_args(hint)}
    repeated = get_origin(hint) is list
    kind = get_args(hint)[0] if repeated else hint
    together, inner = get_origin(kind), get_args(kind)
    if together is not None:  # words of one option
        nargs = "+" if together is list else len(inner)
        return {"action": _action(lambda words: together(map(inner[0], words)), repeated), "nargs": nargs}
    return {"action": _action(kind, repeated)} if repeated else {"type": kind}


def _action(convert: Callable[[Any], Any], repeated: bool) -> type[argparse.Action]:
    """Return what converts the words of an option at once, and appends them if it may be given several times."""

    class Words(argparse.Action):
        def __call__(self, parser: Any, namespace: Any, words: Any, option: str | None = None) -> None:  # noqa: ANN401
            try:
                value = convert(words)
            except ValueError as error:
                raise argparse.ArgumentError(self, str(error)) from error
            before = getattr(namespace, self.dest) or []
            setattr(namespace, self.dest, [*before, value] if repeated else value)

    return Words
