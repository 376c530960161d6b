"""DAVIS 2016 and 2017: annotated videos, and which of them show birds."""

from collections.abc import Collection
from pathlib import Path

import numpy as np

from kpose.data.video_sequence import VideoSequence, list_frames, pick_objects, read_identities
from kpose.files import read_json

__all__ = ["DAVIS_BIRDS", "DAVIS_BIRD_SEQUENCES", "read_davis"]

DAVIS_BIRDS = ("bird",)
"""Categories of birds in ``davis_semantics.json``."""

DAVIS_BIRD_SEQUENCES = ("blackswan", "flamingo", "mallard-fly", "mallard-water")
"""Sequences whose every object is a bird; with ``davis_semantics.json`` the geese of ``dog-gooses`` join them."""

SEMANTICS = "davis_semantics.json"


def read_davis(
    root: Path,
    *,
    categories: Collection[str] | None = DAVIS_BIRDS,
    split: str | None = None,
    resolution: str = "480p",
) -> list[VideoSequence]:
    """Read the list of DAVIS' sequences, of 2016 or 2017: both lay out their files alike.

    ``JPEGImages/480p/<sequence>/%05d.jpg`` and ``Annotations/480p/<sequence>/%05d.png``. Masks of 2016 are black
    and white, one object; those of 2017 hold identities. As in the benchmark, the objects are those of the first
    annotated frame. Categories come from ``davis_semantics.json`` (DAVIS' semantic labels) in the root; without it
    only the objects of `DAVIS_BIRD_SEQUENCES` have one: ``bird``.

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
    """
    images = root / "JPEGImages" / resolution
    if not images.is_dir():
        raise FileNotFoundError(
            f"read_davis needs the folder {images}; there is none. Give the folder that holds JPEGImages."
        )
    if split is None:
        names = sorted(path.name for path in images.iterdir() if path.is_dir())
    else:
        names = _split_names(root, split)
    semantics = _semantics(root)
    sequences = []
    for name in names:
        if not (images / name).is_dir():
            raise FileNotFoundError(f"read_davis needs the frames {images / name}; there are none. Fetch them.")
        frames, annotations = list_frames(images / name, root / "Annotations" / resolution / name)
        first = next((path for path in annotations if path is not None), None)
        identities = [] if first is None else [int(value) for value in np.unique(read_identities(first)) if value]
        known = semantics.get(name, {})
        bird = "bird" if name in DAVIS_BIRD_SEQUENCES else ""
        objects = pick_objects({identity: known.get(identity, bird) for identity in identities}, categories)
        if objects:
            sequences.append(VideoSequence(name, frames, annotations, objects))
    return sequences


def _split_names(root: Path, split: str) -> list[str]:
    """Read the names of a split: one a line (2017), or pairs of files (2016)."""
    for year in ("2017", "2016", "480p", "1080p"):
        path = root / "ImageSets" / year / f"{split}.txt"
        if path.is_file():
            lines = [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            return sorted({Path(line).parent.name if "/" in line else line for line in lines})
    raise FileNotFoundError(
        f"read_davis needs the list {split}.txt in a folder of {root / 'ImageSets'}; there is none. Name another."
    )


def _semantics(root: Path) -> dict[str, dict[int, str]]:
    path = root / SEMANTICS
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
        return {name: {int(key): str(value) for key, value in of.items()} for name, of in content.items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{path} does not hold categories of objects ({error}). Fetch it again.") from error
