"""Tables of cameras for the images that a data module trains on."""

from pathlib import Path
from typing import Any

from kpose.reconstruction import CameraMultiplex, ViewpointGrid

__all__ = ["multiplex_of"]


def multiplex_of(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    *,
    grid: ViewpointGrid | None = None,
    file: Path | None = None,
) -> CameraMultiplex:
    """Make a multiplex for the training images of a data module.

    Args:
        data: Data module with ``dataset(split)``, whose data sets have ``indices`` and ``names``.
        grid: Cameras at the start.
        file: File of cameras to take instead (see `CameraMultiplex.save`).

    Returns:
        The multiplex.

    Raises:
        TypeError: If the data module cannot tell its images.
    """
    images: Any = data.dataset("train") if hasattr(data, "dataset") else None
    if not hasattr(images, "indices") or not hasattr(images, "names"):
        raise TypeError(
            "A camera multiplex needs a data module with a method `dataset`, whose data sets have `indices` and "
            f"`names`; got {type(data).__name__}. Take one, or give a CameraMultiplex."
        )
    multiplex = CameraMultiplex(images.indices, names=images.names, grid=grid)
    if file is not None:
        multiplex.load(file)
    return multiplex
