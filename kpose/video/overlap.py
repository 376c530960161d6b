"""A tracker that finds objects in every frame and links them by overlap."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from kpose.geometry import mask_iou, mask_to_box
from kpose.inference.segmentation import Segment, Segmenter
from kpose.video.frames import Frame
from kpose.video.tracker import Box, Target, Track, Tracker, mask_of_target
from kpose.visualization import from_pillow

__all__ = ["OverlapTracker"]

_SIDE = 512  # of the pictures that the segmenter sees
_SMALL = 128  # side of the masks that are compared
_MIN_OVERLAP = 0.1
_REACH = 0.5  # how far an object may go in a frame, as a share of its size: boxes are grown by so much
_DRIFT = 0.1  # how much farther for each frame in which it is hidden
_LIKE_SIZE = 4.0  # times the area of another, at most
_MEMORY = 0.9  # how slowly the usual area of an object changes: what comes out of hiding is whole again
_MIN_SCORE = 0.5  # of a segment that is no known object


@dataclass(frozen=True)
class _Region:
    """What is compared of an object or segment."""

    mask: Tensor  # small
    box: Box
    area: float
    hidden: int = 0  # frames since the object was seen
    stranger_for: int = 0  # frames in a row up to the last one in which the segment was none of the objects
    stranger_overlap: float = _MIN_OVERLAP  # with what it was then, or what objects need


@dataclass(frozen=True)
class _State:
    objects: Mapping[int, _Region]
    strangers: Sequence[_Region] = ()
    size: tuple[int, int] | None = None


class OverlapTracker(Tracker[_State]):
    """Follow objects by the segments of each frame that overlap them in the frame before.

    The object and the segment with the largest intersection over union are linked first; each has one partner at
    most. An object without one may have moved far: boxes are compared, grown by half its size and a tenth more for
    each frame in which it was hidden. So it is found again by the segment nearest to where it was lost, of a
    quarter to four times its usual area, that is no other object. What was already there beside it is another.

    Without targets, all segments of the first frame in which there are some become objects, the likeliest one
    object 1. A segment that is none of them and comes later is a new object once it has been there for some frames.
    Its number is the next one; no number is given twice.

    Args:
        targets: Box or mask of each object in the first frame, by identity; nothing else is followed then. The
            segment that overlaps a target best is it; where none does, the target itself is its mask.
        segmenter: What finds objects, in pictures of at most 512 pixels a side.
        newcomer_frames: Frames in a row in which a segment must be there to become a new object.
        max_objects: Number of objects at which no new one is taken, seen and hidden ones together.

    Raises:
        ValueError: If one of the numbers is below 1.

    Source:
        Growing boxes: Yang et al., Hard to Track Objects with Irregular Motions and Similar Appearances? Make It
        Easier by Buffering the Matching Space, WACV 2023.

    Example:
        >>> class Red(Segmenter):
        ...     def segment(self, image):
        ...         return [Segment((image[0] - image[1]).clamp(0, 1), 1.0)]
        >>> tracker = OverlapTracker(segmenter=Red())
        >>> state = tracker.start()
        >>> for number in range(3):
        ...     picture = Image.new("RGB", (96, 64))
        ...     picture.paste("red", (20 + number, 20, 50 + number, 40))
        ...     [track], state = tracker.step(state, Frame(number, 0.0, picture))
        >>> track.identity, [round(edge, -1) for edge in track.box]
        (1, [20.0, 20.0, 50.0, 40.0])
    """

    def __init__(
        self,
        targets: Mapping[int, Target] | None = None,
        *,
        segmenter: Segmenter,
        newcomer_frames: int = 3,
        max_objects: int = 16,
    ) -> None:
        if min(given := (newcomer_frames, max_objects)) < 1:
            raise ValueError(f"OverlapTracker needs newcomer_frames and max_objects above 0; got {given}.")
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
            raise ValueError(f"OverlapTracker needs frames of one size; got {size} after {state.size}.")
        found = self._find(frame.image)
        segments, masks = [segment for segment, _ in found], [mask for _, mask in found]
        regions = [_describe(mask, state.strangers) for mask in masks]
        first, known, seen = state.size is None, state.objects, dict[int, Tensor]()
        if first:
            seen = {identity: mask_of_target(target, size) for identity, target in self.targets.items()}
            known = {identity: _describe(mask) for identity, mask in seen.items()}
        seen |= {key: masks[place] for key, place in _link(known, regions, near=not first).items()}
        objects = {identity: _follow(region, seen.get(identity)) for identity, region in known.items()}
        strangers = []
        for place in _unknown(segments, regions, objects.values()):
            stranger = replace(regions[place], stranger_for=regions[place].stranger_for + 1)
            waited = stranger.stranger_for >= self.newcomer_frames
            is_new = not self.targets and (not known or waited)
            if is_new and len(objects) < self.max_objects:
                identity = max(objects, default=0) + 1
                objects[identity], seen[identity] = stranger, masks[place]
            else:
                strangers.append(stranger)
        tracks = [Track.of_mask(key, seen[key]) if key in seen else Track(key) for key in sorted(objects)]
        return tracks, _State(objects, strangers, size)

    def _find(self, image: Image.Image) -> list[tuple[Segment, Bool[Tensor, "H W"]]]:
        """Find the segments of a frame, and their pixels in it."""
        small = image.copy()
        small.thumbnail((_SIDE, _SIDE))
        segments = self.segmenter.segment(from_pillow(small))
        soft = (
            interpolate(one.mask[None, None].float(), image.size[::-1], mode="bilinear", align_corners=False)
            for one in segments
        )
        masks = (mask[0, 0] > 0.5 for mask in soft)
        return [(segment, mask) for segment, mask in zip(segments, masks, strict=True) if mask.any()]


def _describe(mask: Bool[Tensor, "H W"], strangers: Sequence[_Region] = ()) -> _Region:
    """Describe a mask with at least one pixel, beside what was no object in the frame before."""
    size = [max(1, round(side * min(1.0, _SMALL / max(mask.shape)))) for side in mask.shape]
    share, box = interpolate(mask[None, None].float(), size, mode="area")[0, 0], mask_to_box(mask)
    assert box is not None
    small = share >= share.max().clamp_max(0.5)
    overlaps = [(float(mask_iou(other.mask, small)), other.stranger_for) for other in strangers]
    overlap, frames = max([(_MIN_OVERLAP, 0), *overlaps])
    return _Region(small, box, float(mask.sum()), 0, frames, overlap)


def _link(objects: Mapping[int, _Region], found: Sequence[_Region], *, near: bool) -> dict[int, int]:
    """Return which segment each object is: by overlap, then by how near it is, those seen before those hidden."""
    scores = {}
    for identity, known in objects.items():
        for place, now in enumerate(found):
            overlap = 0.0 if known.hidden else float(mask_iou(known.mask, now.mask))
            if overlap > now.stranger_overlap:
                scores[identity, place] = 2 + overlap
            elif near and now.stranger_for <= known.hidden and (nearness := _nearness(known, now)) > 0:
                scores[identity, place] = nearness + (not known.hidden)
    links: dict[int, int] = {}
    for identity, place in sorted(scores, key=lambda pair: -scores[pair]):
        if identity not in links and place not in links.values():
            links[identity] = place
    return links


def _nearness(known: _Region, now: _Region) -> float:
    """Compute the overlap of the boxes, grown by how far the object may have gone."""
    if not now.area / _LIKE_SIZE < known.area < now.area * _LIKE_SIZE:
        return 0.0
    low, high = (torch.tensor([known.box[k : k + 2], now.box[k : k + 2]]) for k in (0, 2))
    reach = (_REACH + _DRIFT * known.hidden) * (high - low)[0].max()
    low, high = low - reach, high + reach
    shared = (high.amin(0) - low.amax(0)).clamp_min(0).prod()
    return float(shared / ((high - low).prod(1).sum() - shared))


def _follow(known: _Region, mask: Tensor | None) -> _Region:
    """Describe an object by its mask in the next frame, or without one as hidden."""
    if mask is None:
        return replace(known, hidden=known.hidden + 1)
    now = _describe(mask)
    return replace(now, area=_MEMORY * known.area + (1 - _MEMORY) * now.area)


def _unknown(segments: Sequence[Segment], regions: Sequence[_Region], objects: Iterable[_Region]) -> list[int]:
    """Return the places of likely segments that are neither objects nor, for the most part, one another."""
    taken, places = [known.mask for known in objects if not known.hidden], list[int]()
    for place, (segment, region) in enumerate(zip(segments, regions, strict=True)):
        covered = max((float((region.mask & other).sum() / region.mask.sum()) for other in taken), default=0.0)
        if segment.score >= _MIN_SCORE and covered < 0.5:
            taken.append(region.mask)
            places.append(place)
    return places
