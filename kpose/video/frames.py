"""Frames of videos, folders and cameras, one after the other, each with its time."""

import logging
import math
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from PIL import Image

from kpose._files import existing
from kpose._messages import warn_once
from kpose._pictures import list_pictures
from kpose.inference import Picture, load_photo
from kpose.visualization import import_av

if TYPE_CHECKING:
    import av

__all__ = ["Frame", "count_frames", "number_frames", "open_frames", "read_camera", "read_folder", "read_video"]

_log = logging.getLogger(__name__)

_MIN_LOSS_S = 0.1  # seconds that a video may end early before that is an error
_MAX_ASPECT = 4.0  # of a pixel; a damaged header may say anything
_CAMERA_FORMATS = ("v4l2", "avfoundation", "dshow")  # of FFmpeg on Linux, macOS and Windows


class Frame(NamedTuple):
    """One picture of a video.

    Example:
        >>> Frame(3, 0.12, Image.new("RGB", (16, 12))).number
        3
    """

    number: int
    """Number of the frame, from 0."""
    time_s: float
    """Time since the beginning of the video, in seconds."""
    image: Image.Image
    """The upright picture, RGB."""


def open_frames(source: str | Path, *, frame_rate: float = 25.0) -> Iterator[Frame]:
    """Open whatever shows frames: a folder, a video file, or a camera.

    Args:
        source: Folder of pictures, video file, or ``camera`` for the first camera, ``camera:NAME`` for another.
        frame_rate: Frames a second of a folder.

    Returns:
        Frames, upright, one at a time. What cannot be read is left out, with its number and time.

    Raises:
        FileNotFoundError: If there is no such file or folder.
        ModuleNotFoundError: If it is not a folder, and PyAV is not installed.
        ValueError: If there is no picture or video in it, or no such camera; or after the last frame, if some could
            not be read.

    Example:
        >>> from PIL import Image
        >>> folder = getfixture("tmp_path")
        >>> for number in range(3):
        ...     Image.new("RGB", (16, 12)).save(folder / f"{number}.png")
        >>> [(frame.number, frame.time_s) for frame in open_frames(folder, frame_rate=10.0)]
        [(0, 0.0), (1, 0.1), (2, 0.2)]
    """
    if str(source).split(":")[0] == "camera":
        return read_camera(str(source).partition(":")[2] or None)
    path = Path(source)
    if path.is_dir():
        return read_folder(path, frame_rate=frame_rate)
    return read_video(existing(path, "A video", "Check the name."))


def count_frames(source: str | Path) -> int | None:
    """Count the frames of a folder, or those that a video file announces; None where nothing says so.

    Example:
        >>> count_frames("camera") is None
        True
    """
    path = Path(source)
    try:
        if path.is_dir():
            return len(list_pictures(path)[0])
        if not path.is_file():
            return None
        av = import_av()
        with _open(av, path) as container:
            return int(_best_stream(av, container, path).frames) or None
    except (OSError, ValueError, ModuleNotFoundError):
        return None  # reading it will say why


def number_frames(pictures: Iterable[Frame | Picture], *, frame_rate: float = 25.0) -> Iterator[Frame]:
    """Number pictures and give them times; frames stay as they are."""
    for index, picture in enumerate(pictures):
        yield picture if isinstance(picture, Frame) else Frame(index, index / frame_rate, load_photo(picture))


def read_folder(folder: Path, *, frame_rate: float = 25.0) -> Iterator[Frame]:
    """Read the pictures of a folder in the order of the numbers in their names.

    A picture that cannot be read is left out, with its number and time; a ValueError says so at the end.
    """
    paths, passed = list_pictures(folder)
    for line in passed:
        warn_once(_log, line)
    if not paths:
        raise ValueError(f"A folder of frames needs pictures; {folder} has none. Name another.")
    faults = []
    for index, path in enumerate(paths):
        try:
            image = load_photo(path)
        except (OSError, ValueError) as error:
            faults.append(str(error))
            continue
        yield Frame(index, index / frame_rate, image)
    if faults:
        raise ValueError(f"{len(faults)} of {len(paths)} frames of {folder} cannot be read. The first: {faults[0]}")


def read_video(path: Path) -> Iterator[Frame]:
    """Decode a video file with PyAV, one frame at a time as FFmpeg's player shows it; needs ``kpose[video]``.

    Of several streams of video the best is taken, pixels are made square, and the picture is turned and mirrored as
    the file says. What is damaged is left out, and decoding goes on behind it; the number of a lost frame is not
    given to another. At the end a ValueError says if parts could not be read, or the end is missing.
    """
    av = import_av()
    container = _open(av, path)
    with container:
        stream = _best_stream(av, container, path)
        if stream.codec_context is None:
            raise ValueError(f"{path} holds video of a kind that FFmpeg does not know here. Convert it.")
        # Else damage is painted over in silence; a slice that fails in a thread of its own is, in any case.
        stream.codec_context.options = {"err_detect": "explode"}
        stream.thread_type = "NONE"
        announced, read, lost, end, longest = int(stream.frames), 0, 0, 0.0, _MIN_LOSS_S / 2
        start = float((stream.start_time or 0) * (stream.time_base or 0))
        for number, frame in enumerate(_decode(av, container, stream)):
            if frame is None or frame.is_corrupt:
                lost += 1
                continue
            read += 1
            time = number / float(stream.average_rate or 25) if frame.time is None else frame.time - start
            duration = getattr(frame, "duration", None)  # not of older versions of PyAV
            shown = float((duration or 0) * (stream.time_base or 0))
            longest = max(longest, time - end)
            end = time + (shown or 1 / float(stream.average_rate or math.inf))
            longest = max(longest, end - time)
            yield Frame(number, max(time, 0.0), _as_shown(frame, stream.sample_aspect_ratio))
        seconds = _announced_seconds(av, container, stream)
    if lost:
        missing = f"{read} of {announced}" if read < announced else str(read)
        raise ValueError(f"{path} is damaged or cut short: {missing} frames could be read. Fetch it again.")
    if read == 0:
        raise ValueError(f"{path} holds no frame that can be read. Name another file.")
    if seconds - end > 2 * longest:
        raise ValueError(f"{path} is cut short: it ends after {end:.2f} of {seconds:.2f} seconds. Fetch it again.")


def read_camera(name: str | None = None) -> Iterator[Frame]:
    """Read a camera of this machine through PyAV until it stops; needs ``kpose[video]``.

    Args:
        name: What FFmpeg calls the camera: ``/dev/video0`` on Linux, ``0`` on macOS, ``video=NAME`` on Windows; the
            first one when not given, which Windows does not know.
    """
    av = import_av()
    # One format may have several names, such as video4linux2,v4l2.
    formats = {kind: known for known in av.formats_available for kind in known.split(",")}
    kind = next((kind for kind in _CAMERA_FORMATS if kind in formats), None)
    if kind is None:
        raise ValueError("Cameras need a PyAV with v4l2, avfoundation or dshow; this one has none. Give a file.")
    device = name or {"avfoundation": "0", "dshow": ""}.get(kind, "/dev/video0")
    try:
        container = av.open(device, format=formats[kind])
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ValueError(
            f"The camera {device!r} cannot be read ({_reason(error)}). Name another, or a file."
        ) from error
    with container:
        start = None
        for index, frame in enumerate(container.decode(video=0)):
            time = float(frame.time or 0.0)
            start = time if start is None else start
            yield Frame(index, time - start, _as_shown(frame))


def _announced_seconds(av: ModuleType, container: Any, stream: Any) -> float:  # noqa: ANN401
    """Return how long the video says it is, 0 if it does not: Matroska files do not count their frames."""
    if container.format.name == "avi" and stream.average_rate:  # whose length FFmpeg guesses from the file's size
        return float(stream.frames / stream.average_rate)
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is None or len(container.streams) > 1:  # another stream may be the longer one
        return 0.0
    return float((container.duration - (container.start_time or 0)) / av.time_base)


def _open(av: ModuleType, path: Path) -> Any:  # noqa: ANN401
    try:
        return av.open(str(path))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no video that can be read ({_reason(error)}). Fetch it again.") from error


def _best_stream(av: ModuleType, container: Any, path: Path) -> Any:  # noqa: ANN401
    stream = container.streams.best("video")
    if stream is None or stream.disposition & av.stream.Disposition.attached_pic:  # a cover is no video
        raise ValueError(f"{path} holds no video. Name another file.")
    return stream


def _decode(av: ModuleType, container: Any, stream: Any) -> Iterator[Any]:  # noqa: ANN401
    """Decode packet by packet; None stands for a packet that cannot be decoded."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, OSError, ValueError) as error:  # the file ends in the middle of something
            _log.info("Reading stopped: %s", _reason(error))
            yield None
            return
        if packet is None:
            return
        try:
            yield from packet.decode()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            if not isinstance(error, av.error.EOFError):
                yield None


def _as_shown(frame: "av.VideoFrame", aspect: Any = None) -> Image.Image:  # noqa: ANN401 - a fraction of PyAV's
    """Return a frame with square pixels, turned and mirrored as its display matrix says."""
    image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
    wide = float(aspect or 1)
    if wide != 1 and 1 / _MAX_ASPECT <= wide <= _MAX_ASPECT:
        image = image.resize((max(round(image.width * wide), 1), image.height), Image.Resampling.BICUBIC)
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return image
    across, down_x, _, across_y, down = struct.unpack_from("5i", matrix)
    if abs(across) + abs(down) < abs(down_x) + abs(across_y):  # columns become rows
        image, across, down = image.transpose(Image.Transpose.TRANSPOSE), across_y, down_x
    if across < 0:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if down < 0 else image


def _reason(error: Exception) -> str:
    return " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
