"""Where the photos of a COCO file are, however the tool that wrote it lays out folders and writes names."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from itertools import takewhile
from pathlib import Path, PurePath, PurePosixPath

from kpose._files import walk_files

__all__ = ["CocoPhotos"]

_NO_PHOTOS = {"annotations", "labels", "masks", "segmentationclass", "segmentationobject"}  # folders


class CocoPhotos:
    """The photos that a COCO file names.

    A name is looked for in folders that are called as a part of the file's name, or as its split (``train2017`` of
    ``instances_train2017.json``), in the folder of the file, in ``images`` and in the root, in this order; then in
    all folders below the root but those of masks and labels. Unicode forms and upper case may differ, and so may
    the folders at the beginning that all names share.

    Args:
        root: Folder of the data set.
        path: COCO file.
        names: The names, with forward slashes.
        split: Split that the file is for, if it is for one.
    """

    def __init__(self, root: Path, path: Path, names: Iterable[str], split: str = "") -> None:
        near, base = path.parent.resolve(), root.resolve()
        self.root = root
        self._near = root / near.relative_to(base) if near.is_relative_to(base) else path.parent
        levels = zip(*(PurePosixPath(name).parent.parts for name in names), strict=False)
        self._shared = len([*takewhile(lambda level: len(set(level)) == 1, levels)])
        parts = [part for part in (split, *re.split(r"[_.-]", path.stem)) if part]
        above = [self._near, self._near.parent] if near.is_relative_to(base) and near != base else []
        places = [folder / part for folder in (root, *above) for part in ("", "images")]
        self._folders = [place / part for part in parts for place in places if (place / part).is_dir()]
        self._folders += [self._near] if self._near != root else []
        self._folders += [root / "images", root]

    def find(self, name: str) -> list[Path]:
        """Return the photo of a name: none if there is none, several if it is not clear which is meant."""
        for folder in self._folders:
            if (folder / name).is_file():
                return [folder / name]
        whole = PurePosixPath(name)
        for end in map(_key, (whole, PurePosixPath(*whole.parts[self._shared :]))):
            found = [path for path in self._files[end[-1]] if _key(path)[-len(end) :] == end]
            for folder in self._folders:
                if inside := [path for path in found if _key(path) == (*_key(folder), *end)]:
                    return inside
            if found:
                return found
        return []

    def name(self, photo: Path) -> str:
        """Return the path of a photo below ``images``, or else below the root, without its ending."""
        for folder in (self.root / "images", self.root):
            if photo.is_relative_to(folder):
                return photo.relative_to(folder).with_suffix("").as_posix()
        return photo.with_suffix("").name

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """All files, by the last part of their key; walked through when a name is not where it should be."""
        files = defaultdict[str, list[Path]](list)
        near = [] if self._near.is_relative_to(self.root) else walk_files(self._near, without=_NO_PHOTOS)
        for path in sorted({*walk_files(self.root, without=_NO_PHOTOS), *near}):
            files[_key(path)[-1]].append(path)
        return files


def _key(path: PurePath) -> tuple[str, ...]:
    """Return the parts of a path, alike for names that a file system may take for the same."""
    return tuple(unicodedata.normalize("NFC", part).casefold() for part in path.parts)
