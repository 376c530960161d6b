"""The folder of ``kpose predict``: what belongs to each photo, what is done, and what must not be replaced."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, PngImagePlugin

import kpose
from kpose.files import (
    file_digest,
    fingerprint,
    parse_json,
    read_json,
    real_path,
    safe_name,
    write_file,
    write_text,
)
from kpose.inference.export import save_mesh
from kpose.inference.prediction import Prediction
from kpose.inference.record import json_text, prediction_record
from kpose.visualization import save_animation, to_pillow, turntable

__all__ = ["PhotoResult", "made_by_kpose", "output_names", "read_record", "settings_of", "write_picture"]

MARK = "kpose"
SCRIPT_MARK = f"// {MARK}\n"


class PhotoResult(NamedTuple):
    """Files that belong to one photo."""

    folder: Path
    """Folder of all results."""
    name: str
    """Safe name of the photo, without ending."""
    turning: bool = False
    """Whether an animation of the turning mesh belongs to it."""

    @property
    def record(self) -> Path:
        """JSON file; it is written last, so where it is, the others are whole."""
        return self.folder / f"{self.name}.json"

    @property
    def mesh(self) -> Path:
        """GLB file."""
        return self.folder / f"{self.name}.glb"

    @property
    def overlay(self) -> Path:
        """Picture of the mesh on the photo."""
        return self.folder / f"{self.name}_overlay.png"

    @property
    def script(self) -> Path:
        """The mesh once more, in a form that a page may load from the disk."""
        return self.folder / "viewer" / f"{self.name}.js"

    @property
    def turntable(self) -> Path:
        """Animation of the mesh."""
        return self.folder / f"{self.name}_turntable.gif"

    @property
    def files(self) -> tuple[Path, ...]:
        """Files beside the record."""
        return (self.mesh, self.overlay, self.script, *([self.turntable] if self.turning else []))

    def is_done(self, made_from: str) -> bool:
        """Tell whether the result is there and was made from these contents and options.

        Args:
            made_from: Fingerprint of what the result depends on.

        Returns:
            Whether there is nothing left to do: not where a file is missing, or other than it was written.
        """
        record = read_record(self.record) or {}
        return record.get("made_from") == made_from and all(_is_unchanged(path, record) for path in self.files)

    def check(self, photo: Path, inputs: set[Path], *, overwrite: bool) -> None:
        """Refuse to replace what kpose did not make from this photo.

        A result that kpose made from an earlier content of the photo, by another checkpoint or with other options
        may be replaced, and so may what is left of an interrupted run.

        Args:
            photo: The photo.
            inputs: Files that must not be replaced, as `real_path` gives them.
            overwrite: Whether files of others may be replaced.

        Raises:
            ValueError: If a result would replace an input.
            FileExistsError: If a file is not ours, or belongs to another photo.
        """
        record = read_record(self.record) or {}
        for path in (self.record, *self.files):
            if real_path(path) in inputs:
                raise ValueError(f"Its result {path} would replace an input. Choose another --out.")
            if not overwrite and path.exists() and not _is_unchanged(path, record):
                raise FileExistsError(f"Its result {path} exists. Choose another --out, or give --overwrite.")
        other = record.get("photo")
        if not overwrite and other is not None and real_path(other) != real_path(photo):
            raise FileExistsError(
                f"{self.record} is the result of {other}. Choose another --out, or give --overwrite."
            )

    def write(self, photo: Path, made_from: str, prediction: Prediction) -> None:
        """Write all files, each whole or not at all.

        Args:
            photo: The photo.
            made_from: Fingerprint of what the result depends on.
            prediction: What the photo gave.

        Raises:
            ValueError: If the pose is not finite; nothing is written then.
        """
        record = {"photo": str(photo), "made_from": made_from, **prediction_record(prediction)}
        plain = parse_json(json_text(record))  # before anything is written: a pose may not be finite
        if not self.turning and _is_unchanged(self.turntable, read_record(self.record) or {}):
            self.turntable.unlink()  # it shows an earlier result
        self.record.unlink(missing_ok=True)  # else, after an interruption, it would tell of files that are replaced
        write_picture(self.overlay, to_pillow(prediction.overlay()))
        save_mesh(prediction.colored_mesh, self.mesh, overwrite=True)
        if self.turning:
            save_animation(turntable(prediction.colored_mesh), self.turntable, overwrite=True)
        model = base64.b64encode(self.mesh.read_bytes()).decode()
        write_text(self.script, f'{SCRIPT_MARK}showMesh("{model}");\n')
        plain["files"] = {path.name: file_digest(path) for path in self.files}
        write_text(self.record, json_text({**plain, "digest": fingerprint(plain)}))


def write_picture(path: Path, picture: Image.Image, *, optimize: bool = False) -> None:
    """Write a picture with kpose's mark, whole or not at all.

    Args:
        path: PNG file; an older one is replaced.
        picture: Content.
        optimize: Whether to take more time for a smaller file.
    """
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", MARK)
    write_file(path, lambda fresh: picture.save(fresh, "PNG", pnginfo=note, optimize=optimize))


def settings_of(photo: Path, options: Mapping[str, Any]) -> str:
    """Digest what the result of a photo depends on: its contents, kpose's version, and options.

    Args:
        photo: File.
        options: Checkpoint and options, in plain values.

    Returns:
        Fingerprint.

    Raises:
        OSError: If the photo cannot be read.
    """
    return fingerprint({"kpose": kpose.__version__, "photo": file_digest(photo), **options})


def made_by_kpose(path: Path) -> bool:
    """Tell by its content whether ``kpose predict`` made a file, and nobody has made another one of it since.

    Args:
        path: JSON, GLB, PNG, GIF, script or page.

    Returns:
        Whether it bears kpose's mark, and a JSON file its own digest. A file that cannot be read does not.
    """
    if not path.is_file():
        return False
    try:
        if path.suffix == ".json":
            record = read_record(path) or {}
            return bool(record.pop("digest", None) == fingerprint(record))
        if path.suffix in (".png", ".gif"):
            with Image.open(path) as picture:
                return MARK in (picture.info.get("Software"), picture.info.get("comment", b"").decode("latin-1"))
        with path.open("rb") as file:
            head = file.read(40)
            if path.suffix == ".glb":
                file.seek(20)
                description = parse_json(file.read(int.from_bytes(head[12:16], "little")))
                return bool(description["asset"]["generator"] == MARK)
            return head.startswith(SCRIPT_MARK.encode()) or f"<!-- {MARK} -->".encode() in head
    except (OSError, ValueError, LookupError, TypeError, SyntaxError, Image.DecompressionBombError):
        return False


def _is_unchanged(path: Path, record: Mapping[str, Any]) -> bool:
    """Tell whether a result is as it was written; of an interrupted run there is no record, and its marks count."""
    digests = record.get("files")
    if path.suffix == ".json" or not isinstance(digests, Mapping):
        return made_by_kpose(path)
    return path.is_file() and digests.get(path.name) == file_digest(path)


def read_record(path: Path) -> dict[str, Any] | None:
    """Read a JSON file of ``kpose predict``.

    Args:
        path: File.

    Returns:
        Its content, or None if there is no such file, or another.
    """
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and {"kpose", "photo", "camera"} <= record.keys() else None


def output_names(photos: Sequence[Path], folder: Path | None = None) -> list[str]:
    """Choose a file name, without extension, for the results of each photo.

    The photo's own name, with characters that a file system might refuse replaced; photos of the same name are
    numbered in their order, so that no two share a name on any file system. A photo that has its result in the
    folder keeps the name of that, whatever photos have come since.

    Args:
        photos: Photo files.
        folder: Where earlier calls have left their results.

    Returns:
        Names, in the same order.

    Example:
        >>> output_names([Path("a/robin.jpg"), Path("b/robin.png"), Path("wren?.jpg")])
        ['robin', 'robin-2', 'wren_']
    """
    before = {} if folder is None else _earlier_names(folder)
    kept = [before.get(real_path(photo)) for photo in photos]
    taken = {"index", "three", "viewer", *(name.casefold() for name in kept if name)}  # the first ones of the page
    names = []
    for photo, own in zip(photos, kept, strict=True):
        stem = safe_name(photo.stem)
        name, number = own or stem, 1
        while own is None and name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def _earlier_names(folder: Path) -> dict[Path, str]:
    """Read which photos have a result in a folder, and under which name."""
    records = {path.stem: read_record(path) or {} for path in sorted(folder.glob("*.json"))}
    return {real_path(record["photo"]): name for name, record in records.items() if "photo" in record}
