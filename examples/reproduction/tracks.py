"""Heads on annotated video: the silhouettes of every frame beside the annotated masks."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from PIL import Image
from torch import Tensor

from kpose.cropping import crop_image
from kpose.data import VideoSequence
from kpose.geometry import mask_iou
from kpose.inference import Predictor, Reconstruction
from kpose.inference.photo import load_photo
from kpose.metrics import VideoJaccard
from kpose.video import DiskTracker, Frame, FrameReconstructions, Tracker, VideoPredictor

from sheets import ScoredImage

__all__ = ["Follow", "ScoredSequence", "follow_annotation", "score_sequence"]

PICTURE = 112  # pixels on a side

Follow = Callable[[VideoSequence, Mapping[int, Tensor]], Tracker[Any]]
"""Makes the tracker of a sequence, for objects whose masks of the first frame that shows them are given."""


@dataclass(frozen=True)
class ScoredSequence:
    """What was reconstructed of a sequence, and how good that is."""

    scores: dict[str, float]
    """Jaccard mean, recall and decay of the reconstructed silhouettes."""
    tracker_scores: dict[str, float]
    """The same of the tracker's own masks; empty for one that gives boxes alone."""
    frames: int
    """How many frames have passed the tracker and, where they show an object, the network."""
    seconds: float
    """What that took, with reading the frames and without drawing silhouettes."""
    pictures: list[ScoredImage]
    """Some frames, evenly spaced, of the first object."""


def follow_annotation(sequence: VideoSequence, targets: Mapping[int, Tensor]) -> DiskTracker:
    """Follow objects by their annotated masks, so that nothing but the reconstruction is scored.

    Args:
        sequence: The sequence.
        targets: The objects, by identity.

    Returns:
        Tracker of these objects.
    """
    return DiskTracker(replace(sequence, objects={identity: sequence.objects[identity] for identity in targets}))


def score_sequence(
    predictor: Predictor, sequence: VideoSequence, *, follow: Follow = follow_annotation, pictures: int = 6
) -> ScoredSequence:
    """Reconstruct the objects of a sequence online and compare their silhouettes with the annotated masks.

    An object counts from the first frame in which it is annotated, in every annotated frame: where nothing is
    reconstructed its silhouette is empty. Silhouettes are drawn at the size of the frame.

    Args:
        predictor: Predictor of photos.
        sequence: Annotated sequence.
        follow: Makes the tracker, which knows the objects' masks in that first frame.
        pictures: How many frames are kept to look at.

    Returns:
        Scores, times and pictures.

    Raises:
        ValueError: If a frame or its masks cannot be read, or no object is annotated.
    """
    groups = _first_masks(sequence)
    if not groups:
        raise ValueError(f"score_sequence needs annotated objects; {sequence.name} has none. Leave it out.")
    drawn, tracked = (VideoJaccard([sequence.name]) for _ in range(2))
    shown = _evenly([k for k, path in enumerate(sequence.annotations) if path is not None], pictures)
    frames, seconds, has_masks, kept = 0, 0.0, True, []
    first = min(next(iter(groups.values())))
    for start, targets in groups.items():
        found = VideoPredictor(predictor, follow(sequence, targets))(_frames(sequence, start))
        for objects, taken in _timed(found):
            frames, seconds = frames + 1, seconds + taken
            number = objects.frame.number
            if sequence.annotations[number] is None:
                continue
            annotated, things = sequence.masks(number), {thing.identity: thing for thing in objects.objects}
            nothing = torch.zeros(objects.frame.image.height, objects.frame.image.width, dtype=torch.bool)
            for identity in targets:
                key: dict[str, Any] = {"sequence": sequence.name, "object_id": identity, "frame": number}
                truth, thing = annotated.get(identity, nothing), things.get(identity)
                made = None if thing is None else thing.reconstruction
                silhouette = nothing if made is None else made.mask > 0.5
                drawn.update(silhouette, truth, **key)
                has_masks &= thing is None or thing.track.box is None or thing.track.mask is not None
                known = None if thing is None else thing.track.mask
                tracked.update(nothing if known is None else known, truth, **key)
                if number in shown and identity == first and made is not None:
                    kept.append(_picture(number, made, truth, float(mask_iou(silhouette, truth, soft=False))))
    return ScoredSequence(_numbers(drawn), _numbers(tracked) if has_masks else {}, frames, seconds, kept)


def _first_masks(sequence: VideoSequence) -> dict[int, dict[int, Bool[Tensor, "H W"]]]:
    """Give the masks of objects in the frame that shows them first, by the number of that frame."""
    waiting, groups = set(sequence.objects), {}
    for number in range(len(sequence)):
        if not waiting:
            break
        new = {identity: mask for identity, mask in sequence.masks(number).items() if identity in waiting}
        if new:
            groups[number] = new
            waiting -= set(new)
    return groups


def _frames(sequence: VideoSequence, start: int) -> Iterator[Frame]:
    for number in range(start, len(sequence)):
        yield Frame(number, number / 25, load_photo(sequence.frames[number]))


def _timed(found: Iterator[FrameReconstructions]) -> Iterator[tuple[FrameReconstructions, float]]:
    """Give what each frame holds, with the seconds that it took."""
    while True:
        begin = time.perf_counter()
        objects = next(found, None)
        if objects is None:
            return
        yield objects, time.perf_counter() - begin


def _evenly(numbers: list[int], count: int) -> set[int]:
    """Pick numbers from all parts of a list, its ends left out as the benchmark does."""
    inner = numbers[1:-1] or numbers
    return {inner[int(place)] for place in np.linspace(0, len(inner) - 1, count).round()}


def _picture(number: int, made: Reconstruction, truth: Tensor, iou: float) -> ScoredImage:
    mask = Image.fromarray(truth.numpy().astype(np.uint8) * 255)
    crop = torch.from_numpy(np.array(crop_image(mask, made.square, PICTURE))) > 127
    return ScoredImage(number, crop, made.mesh, made.crop_camera, None, iou, None)


def _numbers(metric: VideoJaccard) -> dict[str, float]:
    return {name: float(value) for name, value in metric.compute().items()}
