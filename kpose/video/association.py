"""A tracker that matches what is found in every frame to where objects were in the last one."""

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

_SIDE = 256  # of the pictures that are looked at
_REACH = 0.35  # how far an object may go between two frames, as a share of its size
_MIN_AREA = 0.25  # of its usual area under which it counts as hidden
_MIN_OVERLAP = 0.3
_MIN_SIMILARITY = 0.5
_MIN_REDISCOVERY_SIMILARITY = 0.75
_MEMORY = 0.95  # how slowly the usual colors and area of an object change
_BLUR = 0.12  # how uncertain its outline is from frame to frame, as a share of its size
_MIN_SCORE = 0.5  # of a segment that is no known object
_CERTAINTY = 0.02  # of what the last frame says, at least this much is left open


@dataclass(frozen=True)
class _Object:
    """What is remembered of one object, in a small picture."""

    mask: Tensor
    area: float
    colors: Tensor
    surroundings: Tensor
    hidden: bool = False


class _Candidate(NamedTuple):
    """A segment that is none of the objects, and the number of frames in which it has been seen in a row."""

    mask: Tensor
    frames: int


@dataclass(frozen=True)
class _State:
    objects: Mapping[int, _Object]
    image: Tensor | None = None
    size: tuple[int, int] | None = None
    candidates: Sequence[_Candidate] = ()


class AssociationTracker(Tracker[_State]):
    """Follow objects from a box or mask in the first frame, without weights unless a segmenter brings some.

    In each frame the pixels of an object are looked for near where they were, and its mask is moved there and
    adapted to the colors of the object and of its surroundings. With a segmenter, the segment that overlaps this
    mask and has the object's colors takes its place. Where too little of the object's colors is left it is
    hidden; it is then looked for in the whole frame by colors and size, among the segments too, until it is back.
    Colors and size are those of the first frame, and change slowly.

    Without targets, all segments of the first frame in which there are some become objects, the likeliest one
    object 1. Of a segmenter that recognizes the kind of objects (`Segmenter.recognizes`), a segment that is none of
    them and comes later is a new object once it has been there for some frames. Its number is the next one; no
    number is given twice. A bird that comes back with other colors or another size than it left with is new too.

    Args:
        targets: Box or mask of each object in the first frame, by identity; nothing else is followed then.
        segmenter: What finds objects; None for colors alone.
        newcomer_frames: Frames in a row in which a segment must be there to become a new object.
        max_objects: Number of objects at which no new one is taken, seen and hidden ones together.

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
        max_objects: int = 16,
    ) -> None:
        if not targets and segmenter is None:
            raise ValueError("AssociationTracker needs targets in the first frame, or a segmenter; got neither.")
        if newcomer_frames < 1 or max_objects < 1:
            raise ValueError(
                "AssociationTracker needs newcomer_frames and max_objects of at least 1; got "
                f"{newcomer_frames} and {max_objects}."
            )
        self.targets = dict(targets or {})
        self.segmenter = segmenter
        self.newcomer_frames = newcomer_frames
        self.max_objects = max_objects

    def start(self) -> _State:
        """Return the state before the first frame: no object is known."""
        return _State({})

    def step(self, state: _State, frame: Frame) -> tuple[list[Track], _State]:
        """Follow the objects into the next frame; see `Tracker.step`."""
        size = frame.image.height, frame.image.width
        if state.size not in (None, size):
            raise ValueError(f"AssociationTracker needs frames of one size; got {size} after {state.size}.")
        picture = frame.image.copy()
        picture.thumbnail((_SIDE, _SIDE))
        image = from_pillow(picture)
        segments = [] if self.segmenter is None else self.segmenter.segment(image)
        candidates: list[_Candidate] = []
        if state.image is not None and state.objects:
            objects = _match(state.image, image, state.objects, [segment.mask > 0.5 for segment in segments])
            if not self.targets:
                candidates = _candidates(objects, state.candidates, segments, self.segmenter)
                objects |= self._new_objects(image, objects, candidates)
        elif self.targets:
            objects = self._target_objects(image, size)
        else:
            found = _unknown(segments, [])[: self.max_objects]
            objects = {identity: _describe(image, mask) for identity, mask in enumerate(found, start=1)}
        tracks = [_track(identity, known, size) for identity, known in sorted(objects.items())]
        waiting = [candidate for candidate in candidates if candidate.frames < self.newcomer_frames]
        return tracks, _State(objects, image, size, waiting)

    def _target_objects(self, image: Tensor, size: tuple[int, int]) -> dict[int, _Object]:
        found = {}
        for identity, target in self.targets.items():
            mask = _shrink(mask_of_target(target, size), image.shape[1:])
            found[identity] = _describe(image, mask if isinstance(target, Tensor) else _inside_box(image, mask))
        return found

    def _new_objects(
        self, image: Tensor, objects: Mapping[int, _Object], candidates: Sequence[_Candidate]
    ) -> dict[int, _Object]:
        ready = [candidate.mask for candidate in candidates if candidate.frames >= self.newcomer_frames]
        room = max(self.max_objects - len(objects), 0)
        first = max(objects) + 1
        return {first + place: _describe(image, mask) for place, mask in enumerate(ready[:room])}


def _candidates(
    objects: Mapping[int, _Object],
    waiting: Sequence[_Candidate],
    segments: Sequence[Segment],
    segmenter: Segmenter | None,
) -> list[_Candidate]:
    """List the recognized segments that are none of the objects in sight."""
    found_by = [(segment, segment.found_by or segmenter) for segment in segments]
    recognized = [segment for segment, finder in found_by if finder is not None and finder.recognizes]
    masks = _unknown(recognized, [known.mask for known in objects.values() if not known.hidden])
    seen = [max((old.frames for old in waiting if (old.mask & mask).any()), default=0) for mask in masks]
    return [_Candidate(mask, frames + 1) for mask, frames in zip(masks, seen, strict=True)]


def _unknown(segments: Sequence[Segment], known: Sequence[Tensor]) -> list[Tensor]:
    """Return the masks of likely segments that are neither known nor, for the most part, one another."""
    taken, found = list(known), list[Tensor]()
    for segment in segments:
        mask = segment.mask > 0.5
        covered = max((float((mask & other).sum() / mask.sum().clamp_min(1)) for other in taken), default=0.0)
        if segment.score >= _MIN_SCORE and mask.any() and covered < 0.5:
            taken.append(mask)
            found.append(mask)
    return found


def _describe(image: Tensor, mask: Bool[Tensor, "h w"]) -> _Object:
    surroundings = color_histogram(image, _box_around(mask, 1.0) & ~mask)
    return _Object(mask, float(mask.sum()), color_histogram(image, mask), surroundings)


def _match(
    before: Tensor, image: Tensor, objects: Mapping[int, _Object], segments: list[Tensor]
) -> dict[int, _Object]:
    """Assign to every object the best of its masks that no better match has taken, or hide it."""
    scored = []
    for identity, known in objects.items():
        if known.hidden:
            masks = segments + _components(color_share(image, known.colors, known.surroundings) > 0.5)
            scored += [(_similarity(known, image, mask), identity, mask) for mask in masks]
            continue
        moved = _move(before, image, known)
        scored.append((_similarity(known, image, moved), identity, moved))
        for mask in segments:
            overlap = float(mask_iou(mask, moved))
            similarity = _similarity(known, image, mask)
            if overlap > _MIN_OVERLAP and similarity > 0:
                scored.append((1 + overlap + similarity, identity, mask))
    matched = {identity: replace(known, hidden=True) for identity, known in objects.items()}
    taken: list[Tensor] = []
    for score, identity, mask in sorted(scored, key=lambda entry: -entry[0]):
        free = all(float(mask_iou(mask, other)) < 0.5 for other in taken)
        if score > 0 and free and matched[identity].hidden:
            matched[identity] = _update(objects[identity], image, mask)
            taken.append(mask)
    return matched


def _move(before: Tensor, image: Tensor, known: _Object) -> Bool[Tensor, "h w"]:
    """Move a mask to where its pixels went, and adapt it to the colors there."""
    length = _length(known.mask)
    right, down = find_shift(before, image, known.mask, max(round(_REACH * length), 3))
    moved = _shift(known.mask, right, down)
    width = 2 * max(round(_BLUR * length), 1) + 1
    blurred = moved[None, None].to(image)
    for window in ((width, 1), (1, width)) * 2:  # one direction at a time: the window is wide
        blurred = avg_pool2d(blurred, window, stride=1, padding=(window[0] // 2, window[1] // 2))
    prior = blurred[0, 0].clamp(_CERTAINTY, 1 - _CERTAINTY).logit()
    colors = color_share(image, known.colors, known.surroundings).clamp(_CERTAINTY, 1 - _CERTAINTY).logit()
    parts = [mask for mask in _components(prior + colors > 0) if (mask & moved).any()]
    return torch.stack(parts).any(0) if parts else torch.zeros_like(moved)


def _similarity(known: _Object, image: Tensor, mask: Bool[Tensor, "h w"]) -> float:
    """Compute how much a mask looks like an object; 0 where it does not."""
    area = float(mask.sum())
    if not _MIN_AREA * known.area < area < known.area / _MIN_AREA:
        return 0.0
    similarity = color_similarity(color_histogram(image, mask), known.colors)
    least = _MIN_REDISCOVERY_SIMILARITY if known.hidden else _MIN_SIMILARITY
    return similarity if similarity > least else 0.0


def _update(known: _Object, image: Tensor, mask: Bool[Tensor, "h w"]) -> _Object:
    now = _describe(image, mask)
    area = _MEMORY * known.area + (1 - _MEMORY) * now.area
    colors = _MEMORY * known.colors + (1 - _MEMORY) * now.colors
    surroundings = _MEMORY * known.surroundings + (1 - _MEMORY) * now.surroundings
    return _Object(mask, area, colors, surroundings)


def _inside_box(image: Tensor, box: Bool[Tensor, "h w"]) -> Bool[Tensor, "h w"]:
    """Guess the pixels of the object in a box: those whose colors are rarer around it, the middle first."""
    inside = box
    outside = color_histogram(image, _box_around(box, 0.5) & ~box)
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


def _box_around(mask: Bool[Tensor, "h w"], share: float) -> Bool[Tensor, "h w"]:
    """Fill the box around a mask, its edges moved outwards by a share of its longer side."""
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


def _track(identity: int, known: _Object, size: tuple[int, int]) -> Track:
    if known.hidden:
        return Track(identity)
    share = interpolate(known.mask[None, None].float(), size, mode="bilinear", align_corners=False)[0, 0]
    return Track.of_mask(identity, share > 0.5)
