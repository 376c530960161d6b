"""Small stand-ins for data sets, written by the tests that read them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from kpose.geometry import matrix_to_quaternion, project, viewpoint_to_matrix
from kpose.structures import Camera

PART_NAMES = (
    "back", "beak", "belly", "breast", "crown", "forehead", "left eye", "left leg",
    "left wing", "nape", "right eye", "right leg", "right wing", "tail", "throat",
)  # fmt: skip
# A crude bird in the object frame: −y beak, +z up, +x left, largest distance 2.
PARTS = torch.tensor([
    [0.0, 0.15, 0.3], [0.0, -0.65, 0.0], [0.0, 0.2, -0.35], [0.0, -0.2, -0.25], [0.0, -0.5, 0.3],
    [0.0, -0.6, 0.15], [0.1, -0.5, 0.15], [0.25, 0.55, -0.45], [0.35, 0.3, 0.1], [0.0, -0.2, 0.25],
    [-0.1, -0.5, 0.15], [-0.25, 0.55, -0.45], [-0.35, 0.3, 0.1], [0.0, 1.3, 0.25], [0.0, -0.4, -0.05],
])  # fmt: skip
PARTS = PARTS * (2 / torch.cdist(PARTS, PARTS).max())
CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross")


def draw_cameras(count: int, generator: torch.Generator) -> Camera:
    """Draw cameras in photo pixels: all azimuths, moderate elevation and roll."""
    azimuth, elevation, roll, scale = torch.rand(4, count, generator=generator) * 2 - 1
    rotation = viewpoint_to_matrix(azimuth * torch.pi, elevation * 0.6, roll * 0.5)
    middle = torch.tensor([60.0, 50.0]) + 5 * torch.randn(count, 2, generator=generator)
    return Camera(30 + 5 * scale, middle, rotation)


def seen_parts(camera: Camera, generator: torch.Generator, drop: float = 0.1) -> torch.Tensor:
    """Return which parts are seen: those of the far side are hidden, some of the others are not annotated."""
    outward = (PARTS - PARTS.mean(0)) * torch.tensor([4.0, 0.0, 0.5])  # sideways, more than up and down
    depth = (outward @ camera.rotation.mT)[..., 2]
    return (depth < 0.1) & (torch.rand(depth.shape, generator=generator) >= drop)


def write_fake_cub(
    root: Path, count: int = 8, *, cameras: bool = True, pictures: bool = True, noise: float = 0.0, seed: int = 0
) -> Camera:
    """Write a folder in the layout of CUB-200-2011, and return its cameras in photo pixels.

    Three of four images are for training; the second picture is gray; photos are 120 × 100 pixels.
    """
    generator = torch.Generator().manual_seed(seed)
    camera = draw_cameras(count, generator)
    parts = project(PARTS.expand(count, -1, -1), camera)
    visible = seen_parts(camera, generator)
    parts = parts + noise * torch.randn(parts.shape, generator=generator)
    low, high = parts.amin(1) - 3, parts.amax(1) + 3
    ids = [10 * row + 1 for row in range(count)]
    names = [f"{CLASSES[row % 2]}/{CLASSES[row % 2][4:].title()}_{row:04}_{ids[row]}.jpg" for row in range(count)]
    splits = ["val" if row % 4 == 3 else "train" for row in range(count)]
    write = {
        "images.txt": [f"{k} {name}" for k, name in zip(ids, names, strict=True)],
        "classes.txt": [f"{k + 1} {name}" for k, name in enumerate(CLASSES)],
        "image_class_labels.txt": [f"{k} {row % 2 + 1}" for row, k in enumerate(ids)],
        "train_test_split.txt": [f"{k} {int(split == 'train')}" for k, split in zip(ids, splits, strict=True)],
        # CUB counts pixels from 1.
        "bounding_boxes.txt": [
            f"{k} {a[0] + 0.5:.2f} {a[1] + 0.5:.2f} {b[0] - a[0]:.2f} {b[1] - a[1]:.2f}"
            for k, a, b in zip(ids, low.tolist(), high.tolist(), strict=True)
        ],
        "parts/parts.txt": [f"{k + 1} {name}" for k, name in enumerate(PART_NAMES)],
        "parts/part_locs.txt": [
            f"{k} {p + 1} {x + 0.5:.2f} {y + 0.5:.2f} 1" if visible[row, p] else f"{k} {p + 1} 0.0 0.0 0"
            for row, k in enumerate(ids)
            for p, (x, y) in enumerate(parts[row].tolist())
        ],
    }
    if cameras:
        values = torch.cat(
            (camera.scale[:, None], camera.translation + 0.5, matrix_to_quaternion(camera.rotation)), 1
        )
        rows = [",".join(f"{value:.6f}" for value in row) for row in values.tolist()]
        write["sfm/cameras.csv"] = ["image_id,split,scale,tx,ty,qw,qx,qy,qz"] + [
            f"{k},{split},{row}" for k, split, row in zip(ids, splits, rows, strict=True)
        ]
        write["sfm/mean_parts.csv"] = ["part_id,x,y,z"] + [
            f"{p + 1},{x:.6f},{y:.6f},{z:.6f}" for p, (x, y, z) in enumerate(PARTS.tolist())
        ]
    for name, lines in write.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("\n".join(lines) + "\n")
    if pictures:
        for row, name in enumerate(names):
            _write_picture(root, name, parts[row], gray=row == 1)
    return camera


def _write_picture(root: Path, name: str, parts: torch.Tensor, gray: bool) -> None:
    noise = np.random.default_rng(len(name)).integers(0, 255, (10, 12, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((120, 100))
    mask = Image.new("L", photo.size)
    ends = [tuple(position) for position in parts[[1, 13]].tolist()]
    ImageDraw.Draw(mask).line(ends, fill=255, width=20)
    ImageDraw.Draw(photo).line(ends, fill=(200, 40, 40), width=20)
    for folder, picture, suffix in (("images", photo, ".jpg"), ("segmentations", mask, ".png")):
        path = (root / folder / name).with_suffix(suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        (picture.convert("L") if gray else picture).save(path)
