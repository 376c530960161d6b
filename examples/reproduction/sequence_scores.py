"""Score predictions of annotated video: the silhouettes of every frame beside the annotated masks."""

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kpose.data import VideoSequence
from kpose.geometry import mask_iou
from kpose.inference import Predictor, load_photo
from kpose.metrics import VideoJaccard
from kpose.video import DiskTracker, Frame, FramePredictions, Tracker, VideoPredictor

Follow = Callable[[VideoSequence, Mapping[int, Tensor]], Tracker[Any]]
"""Makes the tracker of a sequence, for objects whose masks of the first frame that shows them are given."""
MIN_OVERLAP = 0.1  # of what is taken for an object
NOBODY = -1


@dataclass(frozen=True)
class ScoredSequence:
    """Scores of a sequence, and what they took."""

    scores: dict[str, float]
    """Jaccard mean, recall and decay of the reconstructed silhouettes."""
    tracker_scores: dict[str, float]
    """The same of the tracker's own masks; empty for one that returns boxes alone."""
    frames: int
    """How many frames passed the tracker and, where they show an object, the network."""
    seconds: float
    """What that took, with reading the frames and without drawing silhouettes."""


def follow_annotation(sequence: VideoSequence, targets: Mapping[int, Tensor]) -> DiskTracker:
    """Follow objects by their annotated masks, so that nothing but the prediction is scored."""
    return DiskTracker(replace(sequence, objects={identity: sequence.objects[identity] for identity in targets}))


def score_sequence(
    predictor: Predictor,
    sequence: VideoSequence,
    *,
    follow: Follow = follow_annotation,
    unsupervised: bool = False,
) -> ScoredSequence:
    """Reconstruct the objects of a sequence online and compare their silhouettes with the annotated masks.

    An object counts from the first frame in which it is annotated, in every annotated frame: where nothing is
    reconstructed its silhouette is empty. Silhouettes are drawn at the size of the frame.

    Args:
        predictor: Predictor of photos.
        sequence: Annotated sequence.
        follow: Makes the tracker, which knows the objects' masks in that first frame.
        unsupervised: The tracker makes no use of them and numbers objects as it likes. What overlaps an object most
            in the first frame in which something does is taken for it from there on.

    Returns:
        Scores and times.

    Raises:
        ValueError: If a frame or its masks cannot be read, or no object is annotated.
    """
    groups = _first_masks(sequence)
    if not groups:
        raise ValueError(f"score_sequence needs annotated objects; {sequence.name} has none. Leave it out.")
    drawn, tracked = (VideoJaccard([sequence.name]) for _ in range(2))
    frames, seconds, has_masks = 0, 0.0, True
    for start, targets in groups.items():
        found = VideoPredictor(predictor, follow(sequence, targets))(_frames(sequence, start))
        same = {} if unsupervised else {identity: identity for identity in targets}
        for objects, taken in _timed(found):
            frames, seconds = frames + 1, seconds + taken
            number = objects.frame.number
            if sequence.annotations[number] is None:
                continue
            annotated, seen = sequence.masks(number), {one.identity: one for one in objects.objects}
            nothing = torch.zeros(objects.frame.image.height, objects.frame.image.width, dtype=torch.bool)
            for identity in targets:
                key: dict[str, Any] = {"sequence": sequence.name, "object_id": identity, "frame": number}
                truth = annotated.get(identity, nothing)
                if identity not in same and (other := _overlapping(truth, objects, same.values())) is not None:
                    same[identity] = other
                one = seen.get(same.get(identity, NOBODY))
                made = None if one is None else one.prediction
                known = None if one is None else one.track.mask
                has_masks &= one is None or one.track.box is None or known is not None
                drawn.update(nothing if made is None else made.mask > 0.5, truth, **key)
                tracked.update(nothing if known is None else known, truth, **key)
    return ScoredSequence(_numbers(drawn), _numbers(tracked) if has_masks else {}, frames, seconds)


def _overlapping(truth: Tensor, objects: FramePredictions, taken: Collection[int]) -> int | None:
    """Return which object of a frame, that is not taken yet, overlaps a mask most; none if none does."""
    overlaps = {
        one.identity: float(mask_iou(one.track.mask, truth, soft=False))
        for one in objects.objects
        if one.track.mask is not None and one.identity not in taken
    }
    best = max(overlaps, key=lambda identity: overlaps[identity], default=None)
    return best if best is not None and overlaps[best] >= MIN_OVERLAP else None


def _first_masks(sequence: VideoSequence) -> dict[int, dict[int, Tensor]]:
    """Return the masks of objects in the frame that shows them first, by the number of that frame."""
    waiting, groups = set(sequence.objects), {}
    for number in range(len(sequence)):
        new = {identity: mask for identity, mask in sequence.masks(number).items() if identity in waiting}
        if new:
            groups[number] = new
            waiting -= set(new)
        if not waiting:
            break
    return groups


def _frames(sequence: VideoSequence, start: int) -> Iterator[Frame]:
    for number in range(start, len(sequence)):
        yield Frame(number, number / 25, load_photo(sequence.frames[number]))


def _timed(found: Iterator[FramePredictions]) -> Iterator[tuple[FramePredictions, float]]:
    """Yield the objects of each frame with the seconds that it took."""
    while True:
        begin = time.perf_counter()
        objects = next(found, None)
        if objects is None:
            return
        yield objects, time.perf_counter() - begin


def _numbers(metric: VideoJaccard) -> dict[str, float]:
    return {name: float(value) for name, value in metric.compute().items()}
