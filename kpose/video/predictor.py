"""Frames in, predictions of every object out: online, causal, with an explicit state."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from kpose.inference import Picture, Prediction, Predictor
from kpose.video.frames import Frame, number_frames
from kpose.video.smoothing import Smoothed, TemporalSmoothing
from kpose.video.tracker import Box, Track, Tracker

__all__ = ["FramePredictions", "ObjectPrediction", "VideoPredictor", "VideoState"]

_MIN_SIDE = 2.0  # pixels of a box; less is no object that a network could see


class ObjectPrediction(NamedTuple):
    """One object in one frame.

    Example:
        >>> lost = ObjectPrediction(Track(3), None, "hidden")
        >>> lost.identity, lost.problem
        (3, 'hidden')
    """

    track: Track
    """Where the tracker sees it."""
    prediction: Prediction | None
    """Camera, shape and appearance in pixels of the frame; none where the object cannot be seen."""
    problem: str = ""
    """Why there is none: ``hidden``, ``outside``, ``small`` or ``failed``; empty where there is one."""

    @property
    def identity(self) -> int:
        """Number of the object, the same in every frame."""
        return self.track.identity


class FramePredictions(NamedTuple):
    """All objects of one frame.

    Example:
        >>> from PIL import Image
        >>> frame = Frame(0, 0.0, Image.new("RGB", (16, 12)))
        >>> found = FramePredictions(frame, (ObjectPrediction(Track(1), None, "hidden"),))
        >>> [item.identity for item in found.objects if item.prediction is None]
        [1]
    """

    frame: Frame
    """The frame."""
    objects: tuple[ObjectPrediction, ...]
    """Every object that has been seen so far, by identity."""


class VideoState(NamedTuple):
    """What is remembered between two frames."""

    tracking: Any
    """State of the tracker."""
    smoothed: Mapping[int, Smoothed]
    """What smoothing remembers of each object; empty without smoothing."""


class VideoPredictor:
    """Reconstruct the objects of a video, frame by frame.

    What it returns for a frame depends on that frame and earlier ones only. In each frame the tracker says where
    the objects are; the square around each is cut out with the padding of training, all of them pass the network
    together, and the cameras are taken back into the frame: silhouettes (`Prediction.mask`) are drawn there,
    and no crop cuts them off.

    Args:
        predictor: Predictor of photos.
        tracker: What follows the objects.
        smoothing: Smooths cameras and shapes over time; none by default, as in the paper.

    Example:
        >>> from PIL import Image
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.heads import QuaternionHead
        >>> from kpose.tasks import PoseEstimator
        >>> from kpose.inference.segmentation import Segment, Segmenter
        >>> from kpose.video import OverlapTracker
        >>> predictor = Predictor(PoseEstimator(TinyBackbone(width=8), QuaternionHead), image_size=64)
        >>> frames = [Image.new("RGB", (64, 48), "blue") for _ in range(3)]
        >>> for frame in frames:
        ...     frame.paste("red", (10, 10, 30, 25))
        >>> class Red(Segmenter):
        ...     def segment(self, image):
        ...         return [Segment(image[0], 1.0)]
        >>> video = VideoPredictor(predictor, OverlapTracker(segmenter=Red()))
        >>> [len(found.objects) for found in video(frames)]
        [1, 1, 1]
    """

    def __init__(
        self, predictor: Predictor, tracker: Tracker[Any], *, smoothing: TemporalSmoothing | None = None
    ) -> None:
        self.predictor = predictor
        self.tracker = tracker
        self.smoothing = smoothing

    def __call__(self, frames: Iterable[Frame | Picture]) -> Iterator[FramePredictions]:
        """Reconstruct the objects of all frames, one frame at a time.

        Args:
            frames: Frames of one video in order, or pictures, which are given 25 a second.

        Yields:
            The objects of each frame, as soon as it has come; nothing of earlier frames is kept.

        Raises:
            ValueError: If a frame cannot be used; whatever reading the frames raises.
        """
        state = self.start()
        for frame in number_frames(frames):
            found, state = self.step(state, frame)
            yield found

    def start(self) -> VideoState:
        """Return the state before the first frame."""
        return VideoState(self.tracker.start(), {})

    def step(self, state: VideoState, frame: Frame) -> tuple[FramePredictions, VideoState]:
        """Reconstruct the objects of one frame.

        Args:
            state: What the last step returned; it must not be used again.
            frame: The frame.

        Returns:
            The objects, and the state for the next frame.

        Raises:
            ValueError: If the frame cannot be used.
        """
        tracks, tracking = self.tracker.step(state.tracking, frame)
        boxes = {track.identity: _clip(track.box, frame) for track in tracks}
        seen = {identity: box for identity, box in boxes.items() if not isinstance(box, str)}
        pictures = [frame.image] * len(seen)
        made = dict(zip(seen, self.predictor(pictures, box=[*seen.values()]), strict=True)) if seen else {}
        smoothed: dict[int, Smoothed] = dict(state.smoothed)
        objects = []
        for track in tracks:
            prediction, problem = made.get(track.identity), boxes[track.identity]
            if prediction is not None and not prediction.is_finite:
                prediction, problem = None, "failed"
            if prediction is not None and self.smoothing is not None:
                last = smoothed.get(track.identity)
                prediction, smoothed[track.identity] = self.smoothing(last, prediction, frame.time_s)
            objects.append(ObjectPrediction(track, prediction, problem if isinstance(problem, str) else ""))
        return FramePredictions(frame, tuple(objects)), VideoState(tracking, smoothed)


def _clip(box: Box | None, frame: Frame) -> Box | str:
    """Clip a box to the frame, or return why there is nothing to see."""
    if box is None:
        return "hidden"
    left, top, right, bottom = box
    left, top = max(left, 0.0), max(top, 0.0)
    right, bottom = min(right, float(frame.image.width)), min(bottom, float(frame.image.height))
    if right <= left or bottom <= top:
        return "outside"
    return "small" if min(right - left, bottom - top) < _MIN_SIDE else (left, top, right, bottom)
