"""Files: read safely, written whole or not at all, named as every file system takes, and told apart by content."""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from kpose._messages import one_line

__all__ = [
    "SHIPPED_WEIGHTS", "existing", "file_digest", "fingerprint", "fresh_file", "model_source", "parse_json",
    "read_json", "safe_name", "walk_files", "write_file", "write_text",
]  # fmt: skip

SHIPPED_WEIGHTS = Path(__file__).parent / "weights"  # a folder of `Predictor.save_pretrained` by name
MAX_NAME = 60  # characters; of four bytes each, and with an ending, they fit every file system
HUB_TIMEOUT_S = 10
HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


def existing(path: str | Path, needed_by: str, advice: str) -> Path:
    """Return the path of something that is there.

    Args:
        path: File or folder.
        needed_by: Name of what needs it, for the error.
        advice: What to do if it is not there, a sentence.

    Raises:
        FileNotFoundError: If there is no such file or folder.

    Example:
        >>> existing("/nowhere", "read_bird", "Correct the path.")
        Traceback (most recent call last):
        FileNotFoundError: read_bird needs /nowhere; there is no such file or folder. Correct the path.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{needed_by} needs {path}; there is no such file or folder. {advice}")
    return path


def walk_files(
    folder: Path, *, without: Collection[str] = (), onerror: Callable[[OSError], object] | None = None
) -> Iterator[Path]:
    """Yield the files below a folder; links are followed, and each folder is entered once.

    Args:
        folder: Folder.
        without: Names of folders that are not entered, in lower case.
        onerror: Called for each folder that cannot be read, which is left out.

    Example:
        >>> folder = getfixture("tmp_path")
        >>> write_text(folder / "birds" / "wren.txt", "wren")
        >>> (folder / "birds" / "again").symlink_to(folder)
        >>> [path.name for path in walk_files(folder)]
        ['wren.txt']
    """
    entered = {os.path.realpath(folder)}
    for base, folders, names in os.walk(folder, followlinks=True, onerror=onerror):
        real = {name: os.path.realpath(Path(base) / name) for name in folders}
        folders[:] = [name for name in folders if real[name] not in entered and name.casefold() not in without]
        entered.update(real.values())
        yield from (Path(base) / name for name in names)


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever is written
    """Read JSON of any origin; NaN, infinities and what is nested too deeply raise `ValueError`.

    Example:
        >>> parse_json('{"width": 8}')
        {'width': 8}
        >>> parse_json("[" * 100_000)
        Traceback (most recent call last):
        ValueError: It is JSON that is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("It is JSON that is nested too deeply.") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON.")


def read_json(path: str | Path) -> Any:  # noqa: ANN401 - whatever is written
    """Read a JSON file of any origin as `parse_json` does; errors do not name the file.

    Example:
        >>> path = getfixture("tmp_path") / "bird.json"
        >>> write_text(path, "[1, 2]")
        >>> read_json(path)
        [1, 2]
    """
    return parse_json(Path(path).read_bytes())


def model_source(name: str | os.PathLike[str]) -> str:
    """Return the source of a model, unless it is a folder that is not there or the Hub that cannot be reached.

    The Hub's own library would ask again and again, for half a minute and on many lines.

    Example:
        >>> model_source("/nowhere/resnet-50")
        Traceback (most recent call last):
        FileNotFoundError: There is no folder /nowhere/resnet-50. Give another, or a name on the Hugging Face Hub.
    """
    text = os.fspath(name)
    if not HUB_NAME.fullmatch(text) and not Path(text).exists():
        raise FileNotFoundError(f"There is no folder {text}. Give another, or a name on the Hugging Face Hub.")
    if not Path(text).exists():
        _reach_hub(text)
    return text


def _reach_hub(name: str) -> None:
    """Refuse a model that is not in the cache of the Hub where the Hub does not answer."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=HUB_TIMEOUT_S)
    except HfHubHTTPError:
        pass  # it answers; what it says is for who asks for the model
    except Exception as error:  # of whatever library it speaks HTTP with
        raise OSError(
            f"{name} is neither a folder nor in the cache of the Hugging Face Hub, which cannot be reached "
            f"({one_line(error)}). Check its name and the network."
        ) from error


def write_file(path: str | Path, save: Callable[[Path], object]) -> None:
    """Write a file under a temporary name beside it, then rename it.

    Example:
        >>> path = getfixture("tmp_path") / "new" / "bird.bin"
        >>> write_file(path, lambda fresh: fresh.write_bytes(b"bird"))
        >>> path.read_bytes()
        b'bird'
    """
    with fresh_file(path) as fresh:
        save(fresh)


@contextmanager
def fresh_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name ending in ``.tmp`` beside a file, for content that comes bit by bit.

    It is renamed at the end; if the block fails, nothing is left behind. Folders are made.

    Example:
        >>> path = getfixture("tmp_path") / "bird.txt"
        >>> with fresh_file(path) as fresh, fresh.open("w") as file:
        ...     count = file.write("bird")
        >>> path.read_text()
        'bird'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{secrets.token_hex(8)}.tmp")
    fresh.touch()
    mode = fresh.stat().st_mode  # that of the user's umask, which safetensors does not ask
    try:
        yield fresh
        fresh.chmod(mode)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write text in UTF-8, whole or not at all.

    Example:
        >>> path = getfixture("tmp_path") / "bird.txt"
        >>> write_text(path, "bird")
        >>> path.read_text()
        'bird'
    """
    write_file(path, lambda fresh: fresh.write_text(text, encoding="utf-8"))


def safe_name(name: str) -> str:
    """Return a name that every file system takes, without a leading dot or dash.

    Example:
        >>> safe_name("a wren?"), safe_name("...")
        ('a_wren_', 'unnamed')
    """
    return re.sub(r"[^\w.-]", "_", name)[:MAX_NAME].lstrip(".-") or "unnamed"


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Digest settings to a few letters.

    Example:
        >>> fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:10]


def file_digest(path: str | Path) -> str:
    """Digest the content of a file.

    Example:
        >>> path = getfixture("tmp_path") / "empty"
        >>> path.touch()
        >>> file_digest(path)[:8]
        'e3b0c442'
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
