"""Tables of cameras for the images that a data module trains on."""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from kpose.metrics import multiplex_error
from kpose.reconstruction import CameraMultiplex, ViewpointGrid
from kpose.structures import Batch

__all__ = ["camera_errors", "multiplex_of"]


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


def camera_errors(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    file: Path,
) -> dict[str, float] | None:
    """Compare the cameras of training images with true ones; nothing is learned from that.

    Args:
        data: Data module, as `multiplex_of` takes it.
        file: File of the cameras (see `CameraMultiplex.save`).

    Returns:
        Mean angles in degrees: ``best_deg``, ``top4_deg`` and, for P cameras an image, ``best_of_P_deg`` (see
        `multiplex_error`); None where the data set does not know true cameras.
    """
    images = data.dataset("train")
    if "camera" not in images[0]:
        return None
    table = multiplex_of(data, file=file)
    loader: DataLoader[Batch] = DataLoader(images, batch_size=64)
    truth = torch.empty(table.num_images, 3, 3)
    for batch in loader:
        truth[table.rows(batch["index"])] = batch["camera"].rotation
    errors = multiplex_error(table.rotation, table.losses, truth)
    named = {f"best_of_{table.num_cameras}_deg" if k == "best_of_all_deg" else k: v for k, v in errors.items()}
    return {k: round(float(v.mean()), 3) for k, v in named.items()}
