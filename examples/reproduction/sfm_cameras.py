"""Compare kpose's structure-from-motion cameras of CUB with those that a folder has already, such as CMR's.

    python -m kpose.data.sfm $KPOSE_CUB_ROOT --out sfm/cameras.csv
    python examples/reproduction/sfm_cameras.py $KPOSE_CUB_ROOT sfm/cameras.csv

Both commands together give the table of docs/data.md.
"""

from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch.utils.data import ConcatDataset, DataLoader

from kpose.data import CUBDataset, read_mean_parts
from kpose.geometry import mask_iou, project
from kpose.metrics import angular_error
from kpose.rendering import HardRenderer
from kpose.structures import Mesh
from kpose.templates import bird

SPLITS = ("train", "val")


def main(root: Path, cameras: Path, image_size: int = 64) -> None:
    """Print angles between the cameras, and the reprojection error and overlap of either.

    Args:
        root: Folder in CUB's layout with ``sfm/cameras.csv`` and ``sfm/mean_parts.csv``.
        cameras: Cameras of `kpose.data.sfm`, with their ``mean_parts.csv`` beside them.
        image_size: Side of the crops, in pixels.
    """
    rotations = []
    for name, file in (("own", cameras), ("other", root / "sfm" / "cameras.csv")):
        data = {split: CUBDataset(root, split, image_size=image_size, cameras=file) for split in SPLITS}
        parts = read_mean_parts(file.with_name("mean_parts.csv"))
        found = {split: reprojection_error(one, parts) for split, one in data.items()}
        overlap, rotation = template_overlap(data)
        rotations.append(rotation)
        print(f"{name}: visible parts to projected mean parts {found}, IoU of the template {overlap:.3f}")
    common = rotations[0].keys() & rotations[1].keys()
    own, other = (torch.stack([found[index] for index in sorted(common)]) for found in rotations)
    angles = angular_error(own, other)
    print(
        f"{len(common)} images: angle median {angles.median():.1f}°, mean {angles.mean():.1f}°, "
        f"within 30° {(angles <= 30).float().mean():.1%}"
    )


def reprojection_error(data: CUBDataset, parts: torch.Tensor) -> float:
    """Return the mean distance of visible parts from the projected mean parts, in normalized units of the crop."""
    distances = []
    for batch in DataLoader(data, batch_size=64):
        distance = (project(parts.expand(len(batch["parts"]), -1, -1), batch["camera"]) - batch["parts"]).norm(
            dim=-1
        )
        distances.append(distance[batch["parts_visible"]])
    return round(float(torch.cat(distances).mean()), 4)


def template_overlap(data: dict[str, CUBDataset]) -> tuple[float, dict[int, torch.Tensor]]:
    """Return the mean hard IoU of the template's silhouette with the masks, and rotations by image."""
    template, renderer = bird(), HardRenderer()
    overlaps, rotations = [], {}
    for batch in DataLoader(ConcatDataset(list(data.values())), batch_size=64):
        mesh = Mesh(template.vertices, template.faces)
        silhouette = renderer.silhouette(mesh, batch["camera"], batch["mask"].shape[-2:])
        overlaps.append(mask_iou(silhouette, batch["mask"], soft=False))
        rotations |= dict(zip(batch["index"].tolist(), batch["camera"].rotation, strict=True))
    return float(torch.cat(overlaps).mean()), rotations


if __name__ == "__main__":
    auto_cli(main, as_positional=True)
