"""Video files, through PyAV."""

import logging
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from PIL import Image

__all__ = ["VideoWriter", "import_av"]

TICKS = 90_000  # a second, as in most video files


class VideoWriter:
    """Write pictures to an MP4 file, H.264 where PyAV can, one after the other; needs ``kpose[video]``.

    Args:
        path: File.
        size: Width and height, even numbers of pixels.

    Raises:
        ModuleNotFoundError: If PyAV is not installed.
        OSError: If the file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int]) -> None:
        av = import_av()
        self._frame = av.VideoFrame.from_image
        self._container: Any = av.open(str(path), "w", format="mp4", options={"movflags": "faststart"})
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        self._stream: Any = self._container.add_stream(
            codec, rate=25, options={"crf": "20"} if codec == "libx264" else {}
        )
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.time_base = Fraction(1, TICKS)
        self._last = -1

    def add(self, picture: Image.Image, time_s: float) -> None:
        """Append a picture.

        Args:
            picture: RGB of the file's size.
            time_s: Its time, later than that of the picture before.
        """
        frame = self._frame(picture)
        frame.pts = self._last = max(round(time_s * TICKS), self._last + 1)
        frame.time_base = Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> "VideoWriter":
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file."""
        try:
            if kind is None:
                self._container.mux(self._stream.encode(None))
        finally:
            self._container.close()


def import_av() -> ModuleType:
    """Import PyAV.

    Returns:
        The module ``av``.

    Raises:
        ModuleNotFoundError: If it is not installed.
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Videos need PyAV; it is not installed. Run `pip install 'kpose[video]'`, or give a folder of frames."
        ) from error
    logging.getLogger("libav").setLevel(logging.CRITICAL)  # what matters of it is said by the reader
    return av
