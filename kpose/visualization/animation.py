"""Moving pictures in files: MP4 through PyAV, and GIF."""

import logging
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kpose._files import write_file
from kpose.visualization.pictures import to_pillow

__all__ = ["VideoWriter", "import_av", "save_animation"]

TICKS = 90_000  # a second, as in most video files


class VideoWriter:
    """Write pictures to an MP4 file, H.264 where PyAV can, one after the other; needs ``kpose[video]``.

    Args:
        path: File.
        size: Width and height, even numbers of pixels.

    Raises:
        ModuleNotFoundError: If PyAV is not installed.
        OSError: If the file cannot be written.

    Example:
        >>> from PIL import Image
        >>> path = getfixture("tmp_path") / "gray.mp4"
        >>> with VideoWriter(path, (16, 12)) as video:
        ...     for number in range(3):
        ...         video.add(Image.new("RGB", (16, 12), "gray"), number / 25)
        >>> path.stat().st_size > 0
        True
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

    def __exit__(self, kind: object, *_: object) -> None:
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

    Example:
        >>> import_av().__name__
        'av'
    """
    try:
        import av
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Videos need PyAV; it is not installed. Run `pip install 'kpose[video]'`, or give a folder of frames."
        ) from error
    logging.getLogger("libav").setLevel(logging.CRITICAL)  # what matters of it is said by the reader
    return av


def save_animation(
    frames: Float[Tensor, "frames 3 H W"], path: str | Path, *, fps: int | float = 12, overwrite: bool = False
) -> None:
    """Write pictures as an animated GIF that repeats, or as an MP4 file; the latter needs ``kpose[video]``.

    Args:
        frames: RGB in [0, 1].
        path: File ending in ``.gif`` or ``.mp4``; its folder is made, and it appears whole or not at all. A last
            odd row or column of pixels is left out of an MP4 file, which has none.
        fps: Pictures in a second, at most 50: GIF counts in hundredths of a second, and browsers slow down what is
            faster.
        overwrite: Replace a file that exists.

    Raises:
        FileExistsError: If the file exists and ``overwrite`` is not set.
        ModuleNotFoundError: If the file is an MP4 and PyAV is not installed.
        ValueError: If the ending is another, there are no pictures, or ``fps`` is out of range.

    Example:
        >>> import torch
        >>> path = getfixture("tmp_path") / "turning.gif"
        >>> save_animation(torch.rand(3, 3, 16, 16), path)
        >>> with Image.open(path) as picture:
        ...     picture.n_frames
        3
    """
    path = Path(path)
    write = {".gif": _write_gif, ".mp4": _write_mp4}.get(path.suffix.lower())
    if write is None:
        raise ValueError(f"save_animation needs a file that ends in .gif or .mp4; got {path.name!r}. Rename it.")
    if not len(frames) or not 0.1 <= fps <= 50:
        raise ValueError(
            f"save_animation needs pictures, and between 0.1 and 50 in a second; got {len(frames)} and {fps}."
        )
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Name another file, or set overwrite.")
    write_file(path, partial(write, [to_pillow(frame) for frame in frames], fps))


def _write_gif(pictures: list[Image.Image], fps: int | float, path: Path) -> None:
    # One palette for all: with one for each picture, what stands still would flicker.
    palette = _palette(pictures)
    first, *others = [picture.quantize(palette=palette) for picture in pictures]
    options = {"duration": 10 * round(100 / fps), "loop": 0, "disposal": 1, "comment": b"kpose"}
    first.save(path, "GIF", save_all=True, append_images=others, **options)


def _write_mp4(pictures: list[Image.Image], fps: int | float, path: Path) -> None:
    width, height = pictures[0].size
    size = width - width % 2, height - height % 2
    with VideoWriter(path, size) as writer:
        for number, picture in enumerate(pictures):
            writer.add(picture.crop((0, 0, *size)), number / fps)


def _palette(pictures: list[Image.Image]) -> Image.Image:
    """Choose the colors of some pictures from all over the animation."""
    chosen = pictures[:: max(1, len(pictures) // 8)]
    width, height = pictures[0].size
    strip = Image.new("RGB", (width * len(chosen), height))
    for number, picture in enumerate(chosen):
        strip.paste(picture, (number * width, 0))
    return strip.quantize(256, method=Image.Quantize.MEDIANCUT)
