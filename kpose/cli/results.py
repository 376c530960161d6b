"""The folder of ``kpose predict``: what belongs to each photo, what is done, and what must not be replaced."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from os.path import realpath  # unlike that of pathlib, it leaves links in a circle as they are
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image, PngImagePlugin

import kpose
from kpose._files import file_digest, fingerprint, read_json, safe_name, write_file, write_text
from kpose.cli.parser import ArgumentError

if TYPE_CHECKING:
    from kpose.inference import Prediction

__all__ = [
    "SHEET",
    "PhotoResult",
    "check_folder",
    "check_replaced",
    "is_marked",
    "photo_results",
    "read_record",
    "write_marked_picture",
]

SHEET = "sheet.png"
MARK = "kpose"
PAGE_MARK = f"<!-- {MARK} -->"


class PhotoResult(NamedTuple):
    """What belongs to one photo.

    The record, a JSON file, names the photo, what its result depends on, and the digests of the other files. It is
    written before they are put in place: whatever interrupts that, what is there is known to be kpose's.
    """

    photo: Path
    """The photo."""
    folder: Path
    """Folder of all results."""
    name: str
    """Name of its files, without ending."""
    made_from: str
    """Fingerprint of what the result depends on."""
    turning: bool = False
    """Whether an animation of the turning mesh belongs to it."""

    @property
    def record(self) -> Path:
        """JSON file."""
        return self.folder / f"{self.name}.json"

    @property
    def files(self) -> tuple[Path, ...]:
        """Files beside the record: mesh, overlay, page of the mesh, and animation."""
        names = [f"{self.name}.glb", f"{self.name}_overlay.png", f"viewer/{self.name}.html"]
        return tuple(self.folder / name for name in (*names, *[f"{self.name}_turntable.gif"][: self.turning]))

    def is_done(self) -> bool:
        """Return whether the files are there, as they were written for the same photo, checkpoint and options."""
        record = read_record(self.record)
        return record.get("made_from") == self.made_from and all(_is_own(path, record) for path in self.files)

    def check(self, inputs: Collection[Path], *, overwrite: bool) -> None:
        """Refuse to replace what kpose did not write for this photo, or another program has changed since."""
        record = read_record(self.record)
        for path in (self.record, *self.files):
            check_replaced(path, inputs, allowed=overwrite or _is_own(path, record))
        other = record.get("photo")
        if not overwrite and other is not None and realpath(other) != realpath(self.photo):
            raise FileExistsError(
                f"{self.record} is the result of {other}. Choose another --out, or give --overwrite."
            )

    def write(self, prediction: "Prediction") -> None:
        """Write all files, each whole or not at all."""
        from kpose.inference import MeshViewer
        from kpose.inference._record import json_text, prediction_record
        from kpose.visualization import save_animation, to_pillow, turntable

        content = {"photo": str(self.photo), "made_from": self.made_from, **prediction_record(prediction)}
        before = read_record(self.record)
        with TemporaryDirectory(prefix=".", suffix=".tmp", dir=self.folder) as folder:
            fresh = [Path(folder) / path.relative_to(self.folder) for path in self.files]
            mesh, overlay, page, *turning = fresh
            prediction.save(mesh)
            to_pillow(prediction.overlay()).save(overlay)
            write_text(page, MeshViewer(prediction.colored_mesh).page)
            for path in turning:
                save_animation(turntable(prediction.colored_mesh), path)
            content["files"] = {path.name: file_digest(path) for path in fresh}
            for path in self._replace(turning=True).files:  # an animation would show an earlier result
                if _is_own(path, before):
                    path.unlink()
            write_text(self.record, json_text({**content, "digest": _digest(content)}))
            for path, written in zip(self.files, fresh, strict=True):
                path.parent.mkdir(exist_ok=True)
                written.replace(path)


def photo_results(
    photos: Sequence[Path], folder: Path, options: Mapping[str, Any], *, turning: bool = False
) -> list[PhotoResult]:
    """Choose a name for the result of each photo, and digest what it depends on.

    The photo's own name, with characters that a file system might refuse replaced; photos of the same name are
    numbered in their order, so that no two share a name on any file system. A photo that has its result in the
    folder keeps the name of that, whatever photos have come since.

    Example:
        >>> photos = [Path("a/robin.jpg"), Path("b/robin.png"), Path("wren?.jpg")]
        >>> [result.name for result in photo_results(photos, Path("out"), {})]
        ['robin', 'robin-2', 'wren_']
    """
    records = {path.stem: read_record(path) for path in sorted(folder.glob("*.json"))}
    before = {realpath(record["photo"]): name for name, record in records.items() if "photo" in record}
    kept = [before.get(realpath(photo)) for photo in photos]
    taken = {"index", *(name.casefold() for name in kept if name)}
    results = []
    for photo, name in zip(photos, kept, strict=True):
        if name is None:
            stem = safe_name(photo.stem)
            number, name = 1, stem
            while name.casefold() in taken:
                number += 1
                name = f"{stem}-{number}"
        taken.add(name.casefold())
        try:
            photo_digest = file_digest(photo) if photo.is_file() else ""
        except OSError:  # which is reported when its turn comes
            photo_digest = ""
        made_from = fingerprint({"kpose": kpose.__version__, "photo": photo_digest, **options})
        results.append(PhotoResult(photo, folder, name, made_from, turning))
    return results


def check_folder(path: Path) -> None:
    """Refuse a file in the place of a folder."""
    if path.exists() and not path.is_dir():
        raise ArgumentError(None, f"--out needs a folder; {path} is a file")


def check_replaced(path: Path, inputs: Iterable[Path], *, allowed: bool) -> None:
    """Refuse to write a result over a file that must stay."""
    if path.exists() and realpath(path) in map(realpath, inputs):
        raise ValueError(f"The result {path} would replace an input. Choose another --out.")
    if path.exists() and not allowed:
        raise FileExistsError(f"The result {path} exists. Choose another --out, or give --overwrite.")


def read_record(path: Path) -> dict[str, Any]:
    """Return what a JSON file of ``kpose predict`` holds; nothing if there is no such file, or another."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return {}
    known = (
        isinstance(record, dict) and isinstance(record.get("photo"), str) and {"kpose", "camera"} <= record.keys()
    )
    return record if known else {}


def write_marked_picture(path: Path, picture: Image.Image) -> None:
    """Write a picture that `is_marked` knows again, whole or not at all."""
    note = PngImagePlugin.PngInfo()
    note.add_text("Software", MARK)
    write_file(path, lambda fresh: picture.save(fresh, "PNG", pnginfo=note, optimize=True))


def is_marked(path: Path) -> bool:
    """Return whether kpose wrote a picture or a page that no record names."""
    try:
        if path.suffix == ".html":
            return PAGE_MARK in path.read_text(encoding="utf-8")
        with Image.open(path) as picture:
            return picture.info.get("Software") == MARK
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _digest(record: Mapping[str, Any]) -> str:
    return fingerprint({name: value for name, value in record.items() if name != "digest"})


def _is_own(path: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a file, or the record itself, is as it was written."""
    if path.suffix == ".json":
        return bool(record) and record.get("digest") == _digest(record)
    files = record.get("files")
    known = files.get(path.name) if isinstance(files, dict) else None
    return known is not None and path.is_file() and known == file_digest(path)
