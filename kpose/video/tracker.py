"""The interface of trackers: frames in, boxes and masks with identities out."""

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor

from kpose.geometry import mask_to_box
from kpose.video.frames import Frame

__all__ = ["Target", "Track", "Tracker", "mask_of_target"]

Box = tuple[float, float, float, float]
Target = Box | Tensor
"""What a tracker is to follow: a box ``(left, top, right, bottom)`` in pixels, or a mask ``(H, W)``."""

State = TypeVar("State")


class Track(NamedTuple):
    """One object in one frame.

    Example:
        >>> Track(1, (10.0, 20.0, 30.0, 40.0)).box
        (10.0, 20.0, 30.0, 40.0)
    """

    identity: int
    """Number of the object, the same in every frame."""
    box: Box | None = None
    """Box ``(left, top, right, bottom)`` in pixels of the frame; none where the object is not seen."""
    mask: Bool[Tensor, "H W"] | None = None
    """Its visible pixels, of a tracker that knows them."""

    @classmethod
    def of_mask(cls, identity: int, mask: Bool[Tensor, "H W"]) -> "Track":
        """Return the track of a mask, whose box is the one around it; without a pixel, the object is not seen.

        Example:
            >>> Track.of_mask(1, torch.eye(4) > 0).box
            (0.0, 0.0, 4.0, 4.0)
        """
        return cls(identity, mask_to_box(mask), mask)


class Tracker(ABC, Generic[State]):
    """Interface of trackers, which follow objects through the frames of a video.

    Causal: what it returns for a frame depends on that frame and earlier ones. All that it remembers is in a state
    that the caller holds, so that one tracker can follow several videos, one after the other or in turns.

    Example:
        >>> from PIL import Image
        >>> class Still(Tracker[int]):
        ...     def start(self):
        ...         return 0
        ...     def step(self, state, frame):
        ...         return [Track(1, (0.0, 0.0, 8.0, 8.0))], state + 1
        >>> tracker = Still()
        >>> tracks, state = tracker.step(tracker.start(), Frame(0, 0.0, Image.new("RGB", (9, 9))))
        >>> tracks[0].identity, state
        (1, 1)
    """

    @abstractmethod
    def start(self) -> State:
        """Return the state before the first frame."""

    @abstractmethod
    def step(self, state: State, frame: Frame) -> tuple[list[Track], State]:
        """Follow the objects into the next frame.

        Args:
            state: What the last step returned; it must not be used again.
            frame: The frame.

        Returns:
            One track for every object that has been seen so far, without a box where it is not seen now, ordered by
            identity; and the state for the next frame.

        Raises:
            ValueError: If the frame cannot be used, such as one of another size.
        """


def mask_of_target(target: Target, size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    """Return the pixels of a target: its mask, or the whole of its box.

    Raises:
        ValueError: If the mask has another size than the frame, or the target holds no pixel of it.
    """
    if isinstance(target, Tensor):
        mask = target > 0.5
        if mask.shape != size:
            raise ValueError(
                f"A tracker needs masks of the frame's size {size}; got {tuple(mask.shape)}. Resize it."
            )
    else:
        left, top, right, bottom = target
        mask = torch.zeros(size, dtype=torch.bool)
        mask[max(round(top), 0) : max(round(bottom), 0), max(round(left), 0) : max(round(right), 0)] = True
    if not mask.any():
        raise ValueError(
            f"A tracker needs a target inside the frame of {size[1]} x {size[0]} pixels; got {target}."
        )
    return mask
