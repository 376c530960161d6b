"""How far the cameras of training images are from ground truth."""

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from kpose._distributed import share, total
from kpose.metrics._multiplex_error import multiplex_error
from kpose.reconstruction import CameraTable
from kpose.structures import Batch

__all__ = ["camera_errors"]


def camera_errors(
    data: Any,  # noqa: ANN401 - any Lightning data module with a method `dataset`
    file: Path,
) -> dict[str, float] | None:
    """Compare the cameras of training images with ground truth; nothing is learned from that.

    Returns mean angles in degrees: ``best_deg``, ``top4_deg`` and, for P cameras an image, ``best_of_P_deg`` (see
    `multiplex_error`); None where the data set has no ground truth.
    """
    images = data.dataset("train")
    if "camera" not in images[0]:
        return None
    table = CameraTable.for_images(images, file=file)
    loader: DataLoader[Batch] = DataLoader(
        images, batch_size=64, sampler=share(len(images)), num_workers=getattr(data, "num_workers", 0)
    )
    truth = torch.zeros(table.num_images, 3, 3)
    for batch in loader:
        truth[table.rows(batch["index"])] = batch["camera"].rotation
    truth = total(truth)
    errors = multiplex_error(table.rotation, table.order.argsort(-1).float(), truth)
    named = {f"best_of_{table.num_cameras}_deg" if k == "best_of_all_deg" else k: v for k, v in errors.items()}
    return {k: round(float(v.mean()), 3) for k, v in named.items()}
