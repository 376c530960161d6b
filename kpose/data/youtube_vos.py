"""YouTube-VOS: annotated videos, and which of their objects are birds."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from kpose.data.video_sequence import VideoSequence, list_frames, pick_objects
from kpose.files import read_json

__all__ = ["YOUTUBE_VOS_BIRDS", "read_youtube_vos"]

YOUTUBE_VOS_BIRDS = ("bird", "duck", "eagle", "owl", "parrot", "penguin")
"""Categories of birds among the 65 of the training split."""

LONGEST_NAME = 255  # bytes, of file systems


def read_youtube_vos(
    root: Path, *, categories: Collection[str] | None = YOUTUBE_VOS_BIRDS, split: str = "train"
) -> list[VideoSequence]:
    """Read the list of YouTube-VOS' videos.

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
    """
    folder = root / split
    path = folder / "meta.json"
    if not path.is_file():
        raise FileNotFoundError(f"read_youtube_vos needs the file {path}; there is none. Name another split.")
    try:
        videos: dict[str, Any] = read_json(path)["videos"]
        if odd := [name for name in videos if not _is_folder_name(name)]:
            raise ValueError(f"{odd[0][:60]!r} as the name of a video")
        tables = {
            name: {int(key): str(thing.get("category", "")) for key, thing in video["objects"].items()}
            for name, video in videos.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold the objects of videos ({error!r}). Fetch it again.") from error
    if categories is not None and not any(category for table in tables.values() for category in table.values()):
        raise ValueError(f"read_youtube_vos needs categories; {path} has none. Take the training split, or all.")
    sequences = []
    for name, table in sorted(tables.items()):
        objects = pick_objects(table, categories)
        if not objects:
            continue
        frames = folder / "JPEGImages" / name
        if not frames.is_dir():
            raise FileNotFoundError(f"read_youtube_vos needs the frames {frames}; there are none. Fetch them.")
        sequences.append(VideoSequence(name, *list_frames(frames, folder / "Annotations" / name), objects))
    return sequences


def _is_folder_name(name: str) -> bool:
    """See that a name leads nowhere else."""
    one = name not in {"", ".."} and Path(name).name == name
    return one and name.isprintable() and len(name.encode()) <= LONGEST_NAME
