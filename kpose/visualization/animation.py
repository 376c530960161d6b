"""Moving pictures in files."""

from pathlib import Path

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from kpose.files import write_file
from kpose.visualization.pillow import to_pillow

__all__ = ["save_animation"]


def save_animation(
    frames: Float[Tensor, "frames 3 H W"], path: str | Path, *, fps: int | float = 12, overwrite: bool = False
) -> None:
    """Write pictures as an animated GIF that repeats.

    Args:
        frames: RGB in [0, 1].
        path: File ending in ``.gif``; its folder is made, and it appears whole or not at all.
        fps: Pictures in a second, at most 50: GIF counts in hundredths of a second, and browsers slow down what is
            faster.
        overwrite: Replace a file that exists.

    Raises:
        FileExistsError: If the file exists and ``overwrite`` is not set.
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
    if path.suffix.lower() != ".gif":
        raise ValueError(f"save_animation needs a file that ends in .gif; got {path.name!r}. Rename it.")
    if not len(frames) or not 0.1 <= fps <= 50:
        raise ValueError(
            f"save_animation needs pictures, and between 0.1 and 50 in a second; got {len(frames)} and {fps}."
        )
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists. Name another file, or set overwrite.")
    # One palette for all: with one for each picture, what stands still would flicker.
    pictures = [to_pillow(frame) for frame in frames]
    palette = _palette(pictures)
    first, *others = [picture.quantize(palette=palette) for picture in pictures]

    def save(fresh: Path) -> None:
        first.save(
            fresh, "GIF", save_all=True, append_images=others, duration=10 * round(100 / fps), loop=0, disposal=1
        )

    write_file(path, save)


def _palette(pictures: list[Image.Image]) -> Image.Image:
    """Choose the colours of some pictures from all over the animation."""
    chosen = pictures[:: max(1, len(pictures) // 8)]
    width, height = pictures[0].size
    strip = Image.new("RGB", (width * len(chosen), height))
    for number, picture in enumerate(chosen):
        strip.paste(picture, (number * width, 0))
    return strip.quantize(256, method=Image.Quantize.MEDIANCUT)
