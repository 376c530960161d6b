"""Annotated video: the files of its frames, and the masks of its objects by identity."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from kpose.messages import one_line

__all__ = ["VideoSequence", "list_frames", "pick_objects", "read_identities"]

VOID = 255  # of a palette: pixels that are not scored
FRAME_SUFFIXES = (".jpg", ".jpeg", ".png")


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
            ValueError: If the file cannot be read.
        """
        path = self.annotations[frame]
        if path is None:
            return {}
        identities = read_identities(path)
        found = {identity: torch.from_numpy(identities == identity) for identity in self.objects}
        return {identity: mask for identity, mask in found.items() if mask.any()}

    def first_frame(self, identity: int) -> int | None:
        """Give the first annotated frame in which an object has a pixel, or none.

        Args:
            identity: Identity of the object.

        Returns:
            Number of the frame, from 0.

        Raises:
            ValueError: If a file cannot be read.
        """
        return next((frame for frame in range(len(self)) if identity in self.masks(frame)), None)


def read_identities(path: Path) -> npt.NDArray[np.uint8]:
    """Read which object each pixel belongs to.

    Files with a palette hold identities, of which 255 is void: it is read as background. Masks without a palette
    hold one object, of identity 1, unless they have other values than 0 and 255.

    Args:
        path: PNG file.

    Returns:
        Identities ``(H, W)``, 0 for the background.

    Raises:
        ValueError: If the file cannot be read.
    """
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture if picture.mode in ("P", "L", "1") else picture.convert("L"))
            painted = picture.mode in ("P", "L")
    except Exception as error:  # Pillow raises whatever its parsers do, and errors of its own
        raise ValueError(f"The masks {path} cannot be read ({one_line(error)}).") from error
    if not painted or (values.max(initial=0) == VOID and not ((values > 0) & (values < VOID)).any()):
        return (values > 0).astype(np.uint8)
    return np.where(values == VOID, 0, values).astype(np.uint8)


def list_frames(folder: Path, annotations: Path) -> tuple[tuple[Path, ...], tuple[Path | None, ...]]:
    """List the frames of a folder with the masks of the same name.

    Args:
        folder: Frames, named so that they sort.
        annotations: Masks, PNG files.

    Returns:
        Frames, and the masks of each or none.
    """
    frames = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in FRAME_SUFFIXES))
    masks = [annotations / f"{path.stem}.png" for path in frames]
    return frames, tuple(path if path.is_file() else None for path in masks)


def pick_objects(objects: Mapping[int, str], categories: Iterable[str] | None) -> dict[int, str]:
    """Keep the objects of some categories.

    Args:
        objects: Category of each object, by identity.
        categories: Names of categories; all objects are kept when not given.

    Returns:
        What is kept.

    Example:
        >>> pick_objects({1: "dog", 2: "duck"}, ["duck", "owl"])
        {2: 'duck'}
    """
    if categories is None:
        return dict(objects)
    wanted = set(categories)
    return {identity: category for identity, category in objects.items() if category in wanted}
