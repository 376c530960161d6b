"""The photos that a command is given: files, and folders of them."""

from collections.abc import Callable, Collection
from pathlib import Path

from kpose._messages import one_line
from kpose.cli.parser import report

__all__ = ["given_photos", "report_failure"]


def given_photos(
    path: Path,
    failures: dict[Path, str],
    *,
    deep: bool = False,
    own: Callable[[Path], Collection[str]] = lambda folder: (),
) -> list[Path]:
    """List the photos of a folder; a file is its own list.

    What is passed over is reported, and a folder without a photo is a failure.

    Args:
        path: File or folder.
        failures: Takes what is wrong with a folder.
        deep: Whether folders in it are searched as well.
        own: Returns the names of files in it that the command has written.
    """
    try:
        if not path.is_dir():
            return [path]
        from kpose._pictures import list_pictures

        found, passed = list_pictures(path, deep=deep, without=own(path))
    except OSError as error:
        found, passed = [], []
        failures[path] = one_line(error)
    else:
        if not found:
            failures[path] = f"A folder needs photos; {path} has none. Name another, or the files themselves."
    for line in [*passed, *([failures[path]] if path in failures else [])]:
        report(line)
    return found


def report_failure(path: Path, error: BaseException, failures: dict[Path, str]) -> None:
    """Write a line on a photo that cannot be used, and keep it."""
    line = failures[path] = one_line(error)
    report(line if str(path) in line else f"{path}: {line}")
