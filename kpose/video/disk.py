"""Masks that were made before: of a benchmark, or of another program."""

import logging
from pathlib import Path

import numpy as np

from kpose._files import existing
from kpose._messages import warn_once
from kpose._pictures import list_pictures
from kpose.data import VideoSequence, read_identities
from kpose.video.frames import Frame
from kpose.video.tracker import Track, Tracker

__all__ = ["DiskTracker", "read_mask_folder"]

_log = logging.getLogger(__name__)


class DiskTracker(Tracker[dict[int, str]]):
    """Read the masks of a sequence from disk.

    The frame's number says which mask belongs to it. Objects are there from the first frame in which they have a
    pixel; a frame without annotation shows none of them.

    Args:
        sequence: What `kpose.data.read_davis`, `kpose.data.read_youtube_vos` or `read_mask_folder` returns.

    Example:
        >>> tracker = DiskTracker(VideoSequence("robin", (Path("0.jpg"),), (None,), {1: "bird"}))
        >>> tracker.start()
        {}
    """

    def __init__(self, sequence: VideoSequence) -> None:
        self.sequence = sequence

    def start(self) -> dict[int, str]:
        """Return the objects seen so far: none."""
        return {}

    def step(self, state: dict[int, str], frame: Frame) -> tuple[list[Track], dict[int, str]]:
        """Read the masks of one frame; see `Tracker.step`."""
        if not 0 <= frame.number < len(self.sequence):
            raise ValueError(
                f"DiskTracker needs a frame of the {len(self.sequence)} of {self.sequence.name}; got number "
                f"{frame.number}. Give the video that the masks belong to."
            )
        masks = self.sequence.masks(frame.number)
        for mask in masks.values():
            if mask.shape != (frame.image.height, frame.image.width):
                raise ValueError(
                    f"DiskTracker needs masks of the frame's size {frame.image.height, frame.image.width}; got "
                    f"{tuple(mask.shape)} in {self.sequence.annotations[frame.number]}. Resize the frames."
                )
        seen = state | {identity: self.sequence.objects[identity] for identity in masks}
        return [Track.of_mask(k, masks[k]) if k in masks else Track(k) for k in sorted(seen)], seen


def read_mask_folder(folder: Path) -> VideoSequence:
    """List the masks of a folder, one file for each frame in the order of the numbers in their names.

    Args:
        folder: Masks as `kpose.data.read_identities` reads them.

    Returns:
        Sequence without pictures, with every identity that one of the masks holds.

    Raises:
        FileNotFoundError: If there is no such folder, or no mask in it.
        ValueError: If a mask cannot be read, or none has a pixel of an object.

    Example:
        >>> from PIL import Image
        >>> folder = getfixture("tmp_path")
        >>> for number in range(2):
        ...     Image.new("L", (8, 6), 255).save(folder / f"{number}.png")
        >>> read_mask_folder(folder).masks(1)[1].shape
        torch.Size([6, 8])
    """
    existing(folder, "read_mask_folder", "Name another.")
    files, passed = list_pictures(folder)
    for line in passed:
        warn_once(_log, line)
    paths = tuple(files)
    if not paths:
        raise FileNotFoundError(f"read_mask_folder needs masks in {folder}; there are none. Name another.")
    objects = {int(value): "" for path in paths for value in np.unique(read_identities(path)) if value}
    if not objects:
        raise ValueError(f"Masks need at least one pixel of an object; those of {folder} have none. Name others.")
    return VideoSequence(folder.name, paths, paths, dict(sorted(objects.items())))
