"""Following objects by joining what is found in every frame to where they were in the last one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from kornia.contrib import connected_components
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from kpose.geometry import mask_iou, mask_to_box
from kpose.inference.segmentation import Segment, Segmenter
from kpose.video.color import color_histogram, color_share, color_similarity, find_shift
from kpose.video.frames import Frame
from kpose.video.tracker import Target, Track, Tracker, mask_of_target
from kpose.visualization import from_pillow

__all__ = ["AssociationTracker"]

SIDE = 256  # of the pictures that are looked at
REACH = 0.35  # how far an object may go between two frames, as a share of its size
SMALLEST_SHARE = 0.25  # of its usual area under which it counts as hidden
LEAST_OVERLAP = 0.3
LEAST_SIMILARITY = 0.5
REDISCOVERY_SIMILARITY = 0.75
MEMORY = 0.95  # how slowly the usual colours and area of an object change
BLUR = 0.12  # how uncertain its outline is from frame to frame, as a share of its size
LEAST_SCORE = 0.5  # of a segment that is nothing known
CERTAINTY = 0.02  # of what the last frame says, at least this much is left open


@dataclass(frozen=True)
class _Thing:
    """What is remembered of one object, in a small picture."""

    mask: Tensor
    area: float
    colors: Tensor
    surroundings: Tensor
    hidden: bool = False


class _Newcomer(NamedTuple):
    """A segment that is none of the objects, and the number of frames in which it has been seen in a row."""

    mask: Tensor
    frames: int


@dataclass(frozen=True)
class _State:
    things: Mapping[int, _Thing]
    image: Tensor | None = None
    size: tuple[int, int] | None = None
    newcomers: Sequence[_Newcomer] = ()


class AssociationTracker(Tracker[_State]):
    """Follow objects from a box or mask in the first frame, without weights unless a segmenter brings some.

    In each frame the pixels of an object are looked for near where they were, and its mask is moved there and
    adapted to the colours of the object and of its surroundings. With a segmenter, the segment that overlaps this
    mask and has the object's colours takes its place. Where too little of the object's colours is left it is
    hidden; it is then looked for in the whole frame by colours and size, among the segments too, until it is back.
    Colours and size are those of the first frame, and change slowly.

    Without targets, all segments of the first frame in which there are some become objects, the likeliest one
    object 1. Of a segmenter that recognizes the kind of objects (`Segmenter.recognizes`), a segment that is none of
    them and comes later is a new object once it has been there for some frames. Its number is the next one; no
    number is given twice. A bird that comes back with other colours or another size than it left with is new too.

    Args:
        targets: Box or mask of each object in the first frame, by identity; nothing else is followed then.
        segmenter: What finds objects; None for colours alone.
        newcomer_frames: Frames in a row in which a segment must be there to become a new object.
        most_objects: Number of objects at which no new one is taken, seen and hidden ones together.

    Raises:
        ValueError: If there are neither targets nor a segmenter, or one of the numbers is below 1.

    Example:
        >>> from PIL import Image
        >>> tracker = AssociationTracker({1: (2.0, 2.0, 7.0, 7.0)})
        >>> state = tracker.start()
        >>> for index in range(3):
        ...     picture = Image.new("RGB", (32, 24))
        ...     picture.paste("red", (2 + index, 2, 7 + index, 7))
        ...     [track], state = tracker.step(state, Frame(index, 0.0, picture))
        >>> track.box
        (4.0, 2.0, 9.0, 7.0)
    """

    def __init__(
        self,
        targets: Mapping[int, Target] | None = None,
        *,
        segmenter: Segmenter | None = None,
        newcomer_frames: int = 3,
        most_objects: int = 16,
    ) -> None:
        if not targets and segmenter is None:
            raise ValueError("AssociationTracker needs targets in the first frame, or a segmenter; got neither.")
        if newcomer_frames < 1 or most_objects < 1:
            raise ValueError(
                "AssociationTracker needs newcomer_frames and most_objects of at least 1; got "
                f"{newcomer_frames} and {most_objects}."
            )
        self.targets = dict(targets or {})
        self.segmenter = segmenter
        self.newcomer_frames = newcomer_frames
        self.most_objects = most_objects

    def start(self) -> _State:
        """Give the state before the first frame: no object is known."""
        return _State({})

    def step(self, state: _State, frame: Frame) -> tuple[list[Track], _State]:
        """Follow the objects into the next frame; see `Tracker.step`."""
        size = frame.image.height, frame.image.width
        if state.size not in (None, size):
            raise ValueError(f"AssociationTracker needs frames of one size; got {size} after {state.size}.")
        picture = frame.image.copy()
        picture.thumbnail((SIDE, SIDE))
        image = from_pillow(picture)
        segments = [] if self.segmenter is None else self.segmenter.segment(image)
        newcomers: Sequence[_Newcomer] = ()
        if state.image is not None and state.things:
            things = _follow(state.image, image, state.things, [segment.mask > 0.5 for segment in segments])
            things, newcomers = self._welcome(image, things, state.newcomers, segments)
        elif self.targets:
            things = self._begin(image, size)
        else:
            found = _others(segments, [])[: self.most_objects]
            things = {identity: _meet(image, mask) for identity, mask in enumerate(found, start=1)}
        tracks = [_track(identity, thing, size) for identity, thing in sorted(things.items())]
        return tracks, _State(things, image, size, newcomers)

    def _begin(self, image: Tensor, size: tuple[int, int]) -> dict[int, _Thing]:
        found = {}
        for identity, target in self.targets.items():
            mask = _shrink(mask_of_target(target, size), image.shape[1:])
            found[identity] = _meet(image, mask if isinstance(target, Tensor) else _inside_box(image, mask))
        return found

    def _welcome(
        self, image: Tensor, things: dict[int, _Thing], waiting: Sequence[_Newcomer], segments: Sequence[Segment]
    ) -> tuple[dict[int, _Thing], list[_Newcomer]]:
        """Make objects of the segments that are none of them and have been there for some frames."""
        newcomers: list[_Newcomer] = []
        if self.targets or self.segmenter is None or len(things) >= self.most_objects:
            return things, newcomers
        recognized = [segment for segment in segments if (segment.found_by or self.segmenter).recognizes]
        for mask in _others(recognized, [thing.mask for thing in things.values() if not thing.hidden]):
            frames = 1 + max((entry.frames for entry in waiting if (entry.mask & mask).any()), default=0)
            if frames < self.newcomer_frames:
                newcomers.append(_Newcomer(mask, frames))
            elif len(things) < self.most_objects:
                things = {**things, max(things) + 1: _meet(image, mask)}
        return things, newcomers


def _others(segments: Sequence[Segment], known: Sequence[Tensor]) -> list[Tensor]:
    """Give the masks of likely segments that are neither known nor, for the most part, one another."""
    taken, found = list(known), list[Tensor]()
    for segment in segments:
        mask = segment.mask > 0.5
        covered = max((float((mask & other).sum() / mask.sum().clamp_min(1)) for other in taken), default=0.0)
        if segment.score >= LEAST_SCORE and mask.any() and covered < 0.5:
            taken.append(mask)
            found.append(mask)
    return found


def _meet(image: Tensor, mask: Bool[Tensor, "h w"]) -> _Thing:
    surroundings = color_histogram(image, _grow(mask, 1.0) & ~mask)
    return _Thing(mask, float(mask.sum()), color_histogram(image, mask), surroundings)


def _follow(
    before: Tensor, image: Tensor, known: Mapping[int, _Thing], segments: list[Tensor]
) -> dict[int, _Thing]:
    """Give every object the best of its candidates that no better match has taken, or hide it."""
    scored = []
    for identity, thing in known.items():
        if thing.hidden:
            candidates = segments + _components(color_share(image, thing.colors, thing.surroundings) > 0.5)
            scored += [(_likeness(thing, image, mask), identity, mask) for mask in candidates]
            continue
        moved = _move(before, image, thing)
        scored.append((_likeness(thing, image, moved), identity, moved))
        for mask in segments:
            overlap = float(mask_iou(mask, moved))
            likeness = _likeness(thing, image, mask)
            if overlap > LEAST_OVERLAP and likeness > 0:
                scored.append((1 + overlap + likeness, identity, mask))
    things = {identity: replace(thing, hidden=True) for identity, thing in known.items()}
    taken: list[Tensor] = []
    for score, identity, mask in sorted(scored, key=lambda entry: -entry[0]):
        free = all(float(mask_iou(mask, other)) < 0.5 for other in taken)
        if score > 0 and free and things[identity].hidden:
            things[identity] = _remember(known[identity], image, mask)
            taken.append(mask)
    return things


def _move(before: Tensor, image: Tensor, thing: _Thing) -> Bool[Tensor, "h w"]:
    """Move a mask to where its pixels went, and adapt it to the colours there."""
    length = _length(thing.mask)
    right, down = find_shift(before, image, thing.mask, max(round(REACH * length), 3))
    moved = _shift(thing.mask, right, down)
    width = 2 * max(round(BLUR * length), 1) + 1
    blurred = moved[None, None].to(image)
    for window in ((width, 1), (1, width)) * 2:  # one direction at a time: the window is wide
        blurred = avg_pool2d(blurred, window, stride=1, padding=(window[0] // 2, window[1] // 2))
    prior = blurred[0, 0].clamp(CERTAINTY, 1 - CERTAINTY).logit()
    colors = color_share(image, thing.colors, thing.surroundings).clamp(CERTAINTY, 1 - CERTAINTY).logit()
    parts = [mask for mask in _components(prior + colors > 0) if (mask & moved).any()]
    return torch.stack(parts).any(0) if parts else torch.zeros_like(moved)


def _likeness(thing: _Thing, image: Tensor, mask: Bool[Tensor, "h w"]) -> float:
    """Say how much a mask looks like an object; 0 where it does not."""
    area = float(mask.sum())
    if not SMALLEST_SHARE * thing.area < area < thing.area / SMALLEST_SHARE:
        return 0.0
    similarity = color_similarity(color_histogram(image, mask), thing.colors)
    least = REDISCOVERY_SIMILARITY if thing.hidden else LEAST_SIMILARITY
    return similarity if similarity > least else 0.0


def _remember(thing: _Thing, image: Tensor, mask: Bool[Tensor, "h w"]) -> _Thing:
    now = _meet(image, mask)
    area = MEMORY * thing.area + (1 - MEMORY) * now.area
    colors = MEMORY * thing.colors + (1 - MEMORY) * now.colors
    surroundings = MEMORY * thing.surroundings + (1 - MEMORY) * now.surroundings
    return _Thing(mask, area, colors, surroundings)


def _inside_box(image: Tensor, box: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Guess the pixels of the object in a box: those whose colours are rarer around it, the middle first."""
    inside = box
    outside = color_histogram(image, _grow(box, 0.5) & ~box)
    for _ in range(3):
        share = color_share(image, color_histogram(image, inside), outside)
        better = box & (share > 0.5)
        if better.sum() < 0.1 * box.sum():
            break
        inside = better
    parts = sorted(_components(inside), key=lambda mask: -int(mask.sum()))
    return parts[0] if parts else box


def _components(mask: Bool[Tensor, "h w"]) -> list[Tensor]:
    """Split a mask into its connected parts, without single pixels."""
    box = mask_to_box(mask)
    if box is None:
        return []
    left, top, right, bottom = (int(number) for number in box)
    window = mask[top:bottom, left:right]
    found = connected_components(window[None, None].float(), num_iterations=max(window.shape))[0, 0]
    numbers, counts = torch.unique(found, return_counts=True)
    labels = torch.zeros(mask.shape)
    labels[top:bottom, left:right] = found
    return [labels == number for number, count in zip(numbers, counts, strict=True) if number and count > 1]


def _length(mask: Bool[Tensor, "h w"]) -> float:
    left, top, right, bottom = mask_to_box(mask) or (0, 0, 0, 0)
    return max(right - left, bottom - top)


def _grow(mask: Bool[Tensor, "h w"], share: float) -> Bool[Tensor, "h w"]:
    """Give the box around a mask, its edges moved outwards by a share of its longer side."""
    left, top, right, bottom = mask_to_box(mask) or (0, 0, 0, 0)
    reach = max(share * max(right - left, bottom - top), 2)
    grown = torch.zeros_like(mask)
    grown[max(int(top - reach), 0) : int(bottom + reach), max(int(left - reach), 0) : int(right + reach)] = True
    return grown


def _shift(mask: Bool[Tensor, "h w"], right: int, down: int) -> Bool[Tensor, "h w"]:
    height, width = mask.shape
    padded = torch.nn.functional.pad(mask, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
    return padded[max(-down, 0) : max(-down, 0) + height, max(-right, 0) : max(-right, 0) + width]


def _shrink(mask: Bool[Tensor, "H W"], size: tuple[int, ...]) -> Bool[Tensor, "h w"]:
    share: Float[Tensor, "1 1 h w"] = interpolate(mask[None, None].float(), size, mode="area")
    found = share[0, 0] > 0.5
    return found if found.any() else share[0, 0] > 0


def _track(identity: int, thing: _Thing, size: tuple[int, int]) -> Track:
    if thing.hidden:
        return Track(identity)
    share = interpolate(thing.mask[None, None].float(), size, mode="bilinear", align_corners=False)[0, 0]
    return Track.of_mask(identity, share > 0.5)
