"""Annotated videos of DAVIS 2016 and 2017 and of YouTube-VOS, and which of their objects are birds."""

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from kpose._files import existing, read_json
from kpose._messages import warn_once
from kpose._pictures import list_pictures, read_identities

__all__ = ["VideoSequence", "read_davis", "read_youtube_vos"]

_log = logging.getLogger(__name__)

_DAVIS_BIRDS = ("bird",)  # categories in davis_semantics.json
# Sequences whose every object is a bird; with davis_semantics.json the geese of dog-gooses join them.
_DAVIS_BIRD_SEQUENCES = ("blackswan", "flamingo", "mallard-fly", "mallard-water")
_YOUTUBE_VOS_BIRDS = ("bird", "duck", "eagle", "owl", "parrot", "penguin")  # of 65 categories
_MAX_NAME_BYTES = 255  # of file systems


@dataclass(frozen=True)
class VideoSequence:
    """Video of a benchmark, on disk.

    Example:
        >>> VideoSequence("robin", frames=(Path("0.jpg"),), annotations=(None,), objects={1: "bird"}).masks(0)
        {}
    """

    name: str
    """Name of the sequence."""
    frames: tuple[Path, ...]
    """Files of the frames, in order."""
    annotations: tuple[Path | None, ...]
    """File of each frame's masks; none where the frame is not annotated."""
    objects: Mapping[int, str]
    """Category of each object, by its identity in the files; empty where the data set does not say."""

    def __len__(self) -> int:
        """Count the frames."""
        return len(self.frames)

    def masks(self, frame: int) -> dict[int, Bool[Tensor, "H W"]]:
        """Read the masks of one frame.

        Args:
            frame: Number of the frame, from 0.

        Returns:
            Mask of each object of the sequence that has a pixel in the frame, by identity; none of a frame that is
            not annotated.

        Raises:
            OSError: If there is no such file.
            ValueError: If the file cannot be read.
        """
        path = self.annotations[frame]
        if path is None:
            return {}
        identities = read_identities(path)
        found = {identity: torch.from_numpy(identities == identity) for identity in self.objects}
        return {identity: mask for identity, mask in found.items() if mask.any()}


def read_davis(
    root: Path,
    *,
    categories: Collection[str] | None = _DAVIS_BIRDS,
    split: str | None = None,
    resolution: str = "480p",
) -> list[VideoSequence]:
    """List the sequences of DAVIS 2016 or 2017, whose layouts are the same.

    ``JPEGImages/480p/<sequence>/%05d.jpg`` and ``Annotations/480p/<sequence>/%05d.png``. Masks of 2016 are black
    and white, one object; those of 2017 hold identities. As in the benchmark, the objects are those of the first
    annotated frame. Categories come from ``davis_semantics.json`` (DAVIS' semantic labels) in the root; without it
    only the objects of ``blackswan``, ``flamingo``, ``mallard-fly`` and ``mallard-water`` have one: ``bird``.

    Args:
        root: Folder of the data set.
        categories: Categories of the objects; birds when not given, all objects when None.
        split: Name of a list under ``ImageSets``, such as ``val``; all sequences of the folder when not given.
        resolution: Name of the folder of frames, ``480p`` or ``Full-Resolution``.

    Returns:
        Sequences with at least one such object, by name.

    Raises:
        FileNotFoundError: If the root, the split or the frames of a sequence are missing.
        ValueError: If masks cannot be read.

    Example:
        The sequences with birds::

            [(sequence.name, len(sequence.frames)) for sequence in read_davis(Path("data/DAVIS"))]
    """
    images = existing(root / "JPEGImages" / resolution, "read_davis", "Give the folder that holds JPEGImages.")
    if split is None:
        names = sorted(path.name for path in images.iterdir() if path.is_dir())
    else:
        names = _davis_split(root, split)
    semantics = _davis_semantics(root / "davis_semantics.json")
    sequences = []
    for name in names:
        frames, annotations = _list_frames(images / name, root / "Annotations" / resolution / name)
        first = next((path for path in annotations if path is not None), None)
        identities = [] if first is None else [int(value) for value in np.unique(read_identities(first)) if value]
        known = semantics.get(name, {})
        bird = "bird" if name in _DAVIS_BIRD_SEQUENCES else ""
        objects = _pick_objects({identity: known.get(identity, bird) for identity in identities}, categories)
        if objects:
            sequences.append(VideoSequence(name, frames, annotations, objects))
    return sequences


def _davis_split(root: Path, split: str) -> list[str]:
    """Read the names of a split: one a line (2017), or pairs of files (2016)."""
    for year in ("2017", "2016", "480p", "1080p"):
        path = root / "ImageSets" / year / f"{split}.txt"
        if path.is_file():
            lines = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            return sorted({Path(line).parent.name if "/" in line else line for line in lines})
    raise FileNotFoundError(
        f"read_davis needs the list {split}.txt in a folder of {root / 'ImageSets'}; there is none. Name another."
    )


def _davis_semantics(path: Path) -> dict[str, dict[int, str]]:
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        return {name: {int(key): str(value) for key, value in of.items()} for name, of in content.items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} does not hold categories of objects ({error}). Fetch it again.") from error


def read_youtube_vos(
    root: Path, *, categories: Collection[str] | None = _YOUTUBE_VOS_BIRDS, split: str = "train"
) -> list[VideoSequence]:
    """List the videos of YouTube-VOS.

    ``<split>/JPEGImages/<video>/%05d.jpg``, ``<split>/Annotations/<video>/%05d.png`` with identities, and
    ``<split>/meta.json``. Every fifth frame is annotated; with the files of all frames the others are not. Only the
    training split names categories: of the others, all objects can be read.

    Args:
        root: Folder that holds the splits.
        categories: Categories of the objects; birds when not given, all objects when None.
        split: Folder of the split.

    Returns:
        Videos with at least one such object, by name.

    Raises:
        FileNotFoundError: If the split, ``meta.json`` or the frames of a video are missing.
        ValueError: If ``meta.json`` cannot be read, or names no categories where some are asked for.

    Example:
        The videos with birds of the training split::

            read_youtube_vos(Path("data/youtube-vos"))[0].masks(0)  # {1: mask of the first bird, ...}
    """
    folder = root / split
    path = existing(folder / "meta.json", "read_youtube_vos", "Name another split.")
    try:
        videos: dict[str, Any] = read_json(path)["videos"]
        if odd := [name for name in videos if not _is_folder_name(name)]:
            raise ValueError(f"{odd[0][:60]!r} as the name of a video")
        tables = {
            name: {int(key): str(entry.get("category", "")) for key, entry in video["objects"].items()}
            for name, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold the objects of videos ({error!r}). Fetch it again.") from error
    if categories is not None and not any(category for table in tables.values() for category in table.values()):
        raise ValueError(f"read_youtube_vos needs categories; {path} has none. Take the training split, or all.")
    sequences = []
    for name, table in sorted(tables.items()):
        objects = _pick_objects(table, categories)
        if objects:
            files = _list_frames(folder / "JPEGImages" / name, folder / "Annotations" / name)
            sequences.append(VideoSequence(name, *files, objects))
    return sequences


def _is_folder_name(name: str) -> bool:
    """Check that a name leads nowhere else."""
    one = name not in {"", ".."} and Path(name).name == name
    return one and name.isprintable() and len(name.encode()) <= _MAX_NAME_BYTES


def _list_frames(folder: Path, annotations: Path) -> tuple[tuple[Path, ...], tuple[Path | None, ...]]:
    """List the frames of a folder, and the masks of the same names or none."""
    existing(folder, "A sequence of frames", "Fetch them.")
    frames, passed = list_pictures(folder)
    found, more = list_pictures(annotations) if annotations.is_dir() else ([], [])
    for line in passed + more:
        warn_once(_log, line)
    masks = {path.stem: path for path in found}
    return tuple(frames), tuple(masks.get(path.stem) for path in frames)


def _pick_objects(objects: Mapping[int, str], categories: Collection[str] | None) -> dict[int, str]:
    return {
        identity: category for identity, category in objects.items() if categories is None or category in categories
    }
