"""What can be said about configuration files and options before torch is imported, which takes seconds.

The options are read from the source of what takes them: Lightning's trainer, and the pipeline.
"""

import argparse
import ast
import difflib
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import docstring_parser
import yaml
from jsonargparse import ArgumentError

import kpose
from kpose._files import existing
from kpose._messages import one_line

__all__ = ["answer", "named_files", "suggestion", "with_bases"]

_OF_FILES = {"config": "configuration file; several are layered", "print_config": "print all settings, and end"}
_OF_TASKS = {
    "seed_everything": "seed of all random numbers, or true for one by chance",
    "model": "task: a class, or a file of it; --model.NAME is an argument of it",
    "data": "data module: a class, or a file of it; --data.NAME is an argument of it",
    "optimizer": "optimizer of a task that has none",
    "lr_scheduler": "schedule of a task that has none",
}
_NO_FILE = r"last|hpc|null|registry.*|\w+://.*"  # of --ckpt_path


def answer(command: str, description: str, args: Sequence[str]) -> int | None:
    """Print the help or what is wrong, and return the exit code; nothing where the command itself must look.

    Options must be there, and files must be there and hold settings of names that there are.
    """
    if "-h" in args or "--help" in args:
        _print_help(command, description)
        return 0
    try:
        _check(command, args)
    except ArgumentError as error:
        sys.stderr.write(f"kpose {command}: {one_line(error)}\n")
        return 2
    except FileNotFoundError as error:
        sys.stderr.write(f"kpose {command}: {one_line(error)}\n")
        return 1
    return None


def with_bases(args: Sequence[str]) -> list[str]:
    """Put before each configuration file of a pipeline those that it is layered over.

    Raises:
        ArgumentError: If one of them cannot be read.
    """
    whole: list[str] = []
    for place, word in enumerate(args):
        value = word.partition("=")[2] if word.startswith("--config=") else ""
        if word == "--config" and place + 1 < len(args):
            value = args[place + 1]
        whole += [f"--config={base}" for path in _as_files([value]) for base in _bases(path)]
        whole.append(word)
    return whole


def _bases(path: Path, known: tuple[Path, ...] = ()) -> list[Path]:
    """List what a file is layered over, the lowest first."""
    name = _read(path).get("base")
    if not isinstance(name, str) or (base := path.parent / name) in known:
        return []
    return [*_bases(base, (*known, base)), base]


def _print_help(command: str, description: str) -> None:
    parser = argparse.ArgumentParser(
        prog=f"kpose {command}",
        usage="%(prog)s --config FILE ... [options]",
        description=f"{description[0].upper()}{description[1:]}.",
        epilog="--NAME.help [CLASS], as in --data.help FolderDataModule, lists the arguments of a class.",
    )
    for name, text in {**_OF_FILES, **_options(command)}.items():
        form: dict[str, Any] = {"action": "store_true"} if name == "print_config" else {"metavar": "VALUE"}
        parser.add_argument(f"--{name}", help=text.replace("%", "%%").replace("``", ""), **form)
    parser.print_help()


def _check(command: str, args: Sequence[str]) -> None:
    options = {*_OF_FILES, *_options(command)}
    contents = {path: _read(path) for path in named_files(with_bases(args))}
    for path, content in contents.items():
        trainer = content.get("trainer")
        inner = [f"trainer.{name}" for name in trainer] if isinstance(trainer, dict) else []
        for name in (*map(str, content), *inner):
            if name not in ("fit", "validate", "test"):  # whose settings may be in one file
                _check_name(name, options, f"{path}: there is no setting ")
    for word in args:
        option = word[2:].partition("=")[0]
        if word.startswith("--") and not any(name.startswith(option) for name in options):
            _check_name(option, options, "there is no option --", f" (kpose {command} --help lists all options)")
    checkpoints: list[Any] = [content.get("ckpt_path") for content in contents.values()]
    for checkpoint in (*_values(args, "--ckpt_path"), *checkpoints):
        if checkpoint == "best":
            raise ArgumentError(
                None,
                "--ckpt_path best is that of a run of the same process, and there has been none; name its file",
            )
        if isinstance(checkpoint, str) and not re.fullmatch(_NO_FILE, checkpoint):
            existing(checkpoint, "--ckpt_path", "Name a checkpoint that `kpose fit` has written.")


def named_files(args: Sequence[str]) -> list[Path]:
    """List the configuration files that arguments name, without settings that are written out among them."""
    return _as_files([*_values(args, "--config"), *_values(args, "-c")])


def _as_files(values: Iterable[str]) -> list[Path]:
    return [Path(value) for value in values if value not in ("", "-") and not re.search(r"[{\n]|://", value)]


def _read(path: Path) -> dict[str, Any]:
    """Read a configuration file, or raise `ArgumentError` in a line that names it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        advice = " (YAML takes spaces, no tabs)" if "'\\t'" in str(error.problem) else ""
        raise ArgumentError(None, f"{path}{line}: {error.problem}{advice}") from error
    except FileNotFoundError as error:
        raise ArgumentError(None, f"there is no configuration file {path}") from error
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        line = one_line(error)
        raise ArgumentError(None, line if str(path) in line else f"{path}: {line}") from error
    if not isinstance(content, dict):
        raise ArgumentError(None, f"{path} needs settings, NAME: VALUE on each line; it holds none")
    return content


def suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    """Return what a name may have been meant to be, as the end of a sentence; empty if nothing is like it.

    Example:
        >>> suggestion("KeypointHed", ["KeypointHead", "QuaternionHead"])
        '; did you mean KeypointHead?'
    """
    found = difflib.get_close_matches(name, [*known], n=1, cutoff=0.7)
    return f"; did you mean {prefix}{found[0]}?" if found else ""


def _check_name(name: str, options: set[str], what: str, end: str = "") -> None:
    root, *rest = name.rstrip("+").split(".")
    known = {option.partition(".")[0] for option in options}
    name = root
    lists_trainer = any(option.startswith("trainer.") for option in options)  # the pipeline's is read later
    if root == "trainer" and lists_trainer and rest and rest[0] != "help":
        name, known = f"trainer.{rest[0].rstrip('+')}", options
    if name not in known:
        prefix = "--" if what.endswith("--") else ""
        raise ArgumentError(None, f"{what}{name}{suggestion(name, known, prefix)}{end}")


def _values(args: Sequence[str], option: str) -> Iterator[str]:
    for place, word in enumerate(args):
        if word == option and place + 1 < len(args):
            yield args[place + 1]
        elif word.startswith(f"{option}="):
            yield word.partition("=")[2]


def _options(command: str) -> dict[str, str]:
    """Return the options of a command, each with its text, without the class that they are for being imported."""
    if command == "pipeline":
        own = _parameters(Path(kpose.__path__[0], "pipeline", "run.py"), "Pipeline", "__init__")
        return {"base": "in a file: the one beside it that it is layered over", **own}
    found = importlib.util.find_spec("pytorch_lightning")
    assert found is not None
    assert found.submodule_search_locations is not None
    source = Path(found.submodule_search_locations[0], "trainer", "trainer.py")
    own = _parameters(source, "Trainer", command)
    own = {name: text for name, text in own.items() if "model" not in name and "data" not in name}
    settings = {f"trainer.{name}": text for name, text in _parameters(source, "Trainer", "__init__").items()}
    return {**_OF_TASKS, **own, **settings}


def _parameters(source: Path, class_name: str, function_name: str) -> dict[str, str]:
    """Return the parameters of a function, each with its text, as they are written in a file."""
    classes = [node for node in ast.parse(source.read_bytes()).body if isinstance(node, ast.ClassDef)]
    [kind] = [node for node in classes if node.name == class_name]
    [function] = [node for node in kind.body if isinstance(node, ast.FunctionDef) and node.name == function_name]
    arguments = function.args
    names = [entry.arg for entry in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)][1:]
    docstring = ast.get_docstring(function) or ast.get_docstring(kind) or ""
    texts = {entry.arg_name: entry.description or "" for entry in docstring_parser.parse(docstring).params}
    return {name: " ".join(texts.get(name, "").split()) for name in names}
