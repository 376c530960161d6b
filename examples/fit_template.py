"""Fit the measures of the built-in bird to the silhouettes of CUB's training birds, build it, and score it.

    python examples/fit_template.py fit $KPOSE_CUB_ROOT      # prints a table such as BIRD below
    python examples/fit_template.py build kpose/templates/bird.safetensors
    python examples/fit_template.py score $KPOSE_CUB_ROOT    # prints the tables of docs/template.md
    python examples/fit_template.py draw docs/images/template.png

The folder has CUB-200-2011's layout with structure-from-motion cameras (``sfm/cameras.csv``,
``sfm/mean_parts.csv``). The fit starts from `START`, a bird drawn by hand, reads the split ``train`` alone and
keeps the departure from the drawing smooth along the body.
"""

from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from kpose.data import CUBDataset, read_mean_parts
from kpose.geometry import mask_iou, viewpoint_to_matrix
from kpose.rendering import HardRenderer, SoftRenderer
from kpose.structures import Batch, Mesh
from kpose.templates import bird, save_template, template_mesh
from kpose.visualization import image_grid, mesh_views, to_pillow

from lofted_body import Body, Relief, Section, lattice, lattice_points, loft_template

BIRD = Body(
    sections=(
        Section(-0.713, -0.079, 0.0, 0.0, 0.035, 41.5),
        Section(-0.683, -0.067, 0.02, 0.026, 0.021, 39.0),
        Section(-0.635, -0.034, 0.035, 0.047, 0.007, 36.6),
        Section(-0.592, -0.01, 0.061, 0.086, -0.007, 34.1),
        Section(-0.566, 0.01, 0.154, 0.175, -0.022, 29.7),
        Section(-0.485, 0.073, 0.208, 0.234, -0.036, 23.3),
        Section(-0.391, 0.086, 0.209, 0.25, -0.05, 15.0),
        Section(-0.277, 0.041, 0.219, 0.284, -0.063, 5.6),
        Section(-0.12, -0.032, 0.3, 0.36, -0.072, -4.8),
        Section(0.13, -0.073, 0.366, 0.4, -0.075, -12.4),
        Section(0.408, -0.066, 0.369, 0.41, -0.072, -11.3),
        Section(0.67, -0.021, 0.322, 0.379, -0.064, -9.7),
        Section(0.889, 0.07, 0.229, 0.269, -0.051, -7.9),
        Section(1.047, 0.151, 0.145, 0.136, -0.036, -5.9),
        Section(1.184, 0.192, 0.12, 0.068, -0.018, -3.8),
        Section(1.308, 0.22, 0.118, 0.046, 0.0, -1.6),
        Section(1.408, 0.239, 0.116, 0.034, 0.018, 0.6),
        Section(1.415, 0.227, 0.0, 0.0, 0.036, 2.8),
    ),
    reliefs=(
        Relief(0.44, 0.85, 35.0, 106.0, 0.06, taper=55.0, softness=0.4),  # folded wing
        Relief(0.60, 0.71, 115.0, 165.0, 0.06, softness=0.9),  # tucked leg
    ),
)
"""Measures of the built-in bird, in the unit of CMR's structure from motion; made by `fit`."""

BIRD_PARTS = {
    "back": (0.514, 0.0),
    "beak": (0.044, 0.0),
    "belly": (0.564, 180.0),
    "breast": (0.435, 180.0),
    "crown": (0.324, 0.0),
    "forehead": (0.186, 0.0),
    "left eye": (0.228, 60.0),
    "left leg": (0.665, 148.0),
    "left wing": (0.564, 69.0),
    "nape": (0.435, 0.0),
    "right eye": (0.228, -60.0),
    "right leg": (0.665, -148.0),
    "right wing": (0.564, -69.0),
    "tail": (0.951, 0.0),
    "throat": (0.228, 180.0),
}
"""Place along the bird and angle around it, in degrees, of CUB's parts in CUB's order."""

START = Body(
    sections=(
        Section(-0.715, -0.115, 0.0, 0.0, 0.0, 38.0),
        Section(-0.68, -0.09, 0.02, 0.025, 0.0, 38.0),
        Section(-0.625, -0.045, 0.035, 0.045, 0.0, 38.0),
        Section(-0.575, -0.01, 0.06, 0.08, 0.0, 38.0),
        Section(-0.545, 0.02, 0.15, 0.16, 0.0, 36.0),
        Section(-0.45, 0.09, 0.20, 0.21, 0.0, 32.0),
        Section(-0.34, 0.11, 0.20, 0.22, 0.0, 26.0),
        Section(-0.22, 0.07, 0.21, 0.25, 0.0, 18.0),
        Section(-0.08, 0.0, 0.29, 0.32, 0.0, 8.0),
        Section(0.12, -0.05, 0.36, 0.36),
        Section(0.34, -0.06, 0.37, 0.37),
        Section(0.56, -0.03, 0.33, 0.34),
        Section(0.76, 0.05, 0.24, 0.24),
        Section(0.92, 0.13, 0.155, 0.12),
        Section(1.08, 0.18, 0.13, 0.06),
        Section(1.25, 0.22, 0.13, 0.04),
        Section(1.40, 0.25, 0.13, 0.03),
        Section(1.41, 0.25, 0.0, 0.0),
    ),
    reliefs=BIRD.reliefs,
)
HEAD = 7  # sections of beak and head, whose drawing is kept more closely than the rest


def fit(
    root: Path,
    *,
    steps: int = 600,
    batch_size: int = 32,
    size: int = 48,
    sigma: float = 1e-5,
    smoothness: float = 0.3,
    head_smoothness: float = 3.0,
    seed: int = 0,
) -> None:
    """Fit the measures and print them.

    Args:
        root: Folder in CUB's layout.
        steps: Steps of Adam; the learning rate falls linearly to zero.
        batch_size: Images of a step.
        size: Side of the masks in pixels.
        sigma: Blur of the soft renderer.
        smoothness: Weight of the squared second difference, along the body, of the departure from the drawing.
        head_smoothness: The same for beak and head.
        seed: Of the order of the images.
    """
    torch.manual_seed(seed)
    masks = CUBDataset(root, "train", image_size=size, padding=0.25)
    loader = DataLoader(masks, batch_size, shuffle=True, drop_last=True)
    renderer = SoftRenderer(sigma)
    grid, drawing = lattice(START, 642), START.table()
    change = torch.zeros_like(drawing, requires_grad=True)
    weight = torch.full((len(drawing) - 2, 1), smoothness, dtype=torch.float64)
    weight[: HEAD - 2] = head_smoothness
    optimizer = torch.optim.Adam([change], lr=1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    batches = iter(())
    mean_iou = 0.0
    for step in (bar := tqdm(range(steps))):
        if (batch := next(batches, None)) is None:
            batches = iter(loader)
            batch = next(batches)
        vertices = lattice_points(grid, changed(drawing, change), START.reliefs)
        mask = renderer.silhouette(Mesh(vertices.float(), grid.faces), batch["camera"], size)
        overlap = mask_iou(mask, batch["mask"]).mean()
        bend = (weight * change.diff(n=2, dim=0).square()).sum()
        loss = 1 - overlap + bend
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        mean_iou += (overlap.item() - mean_iou) / min(step + 1, 30)
        bar.set_postfix(iou=f"{mean_iou:.3f}")
    for row in changed(drawing, change).tolist():
        y, z, width, height, sag, lean = (round(value, 3) for value in row)
        tqdm.write(f"        Section({y}, {z}, {width}, {height}, {sag}, {round(lean, 1)}),")


def changed(drawing: Tensor, change: Tensor) -> Tensor:
    """Apply a change to a drawing: widths, heights and gaps in y by their logarithm, leans in radians."""
    y, z, width, height, sag, lean = drawing.unbind(-1)
    move = change.unbind(-1)
    gaps = y.diff() * (8 * move[0].diff()).exp()
    return torch.stack(
        (
            y[0] + move[0][0] + torch.nn.functional.pad(gaps.cumsum(0), (1, 0)),
            z + move[1],
            width * move[2].exp(),
            height * move[3].exp(),
            (sag.atanh() + move[4]).tanh(),
            lean + move[5].rad2deg(),
        ),
        -1,
    )


def build(path: Path) -> None:
    """Build the bird from its measures, as the package ships it.

    Args:
        path: File to write, ends in ``.safetensors``.
    """
    save_template(loft_template(BIRD, BIRD_PARTS), path)


def score(root: Path, *, size: int = 128, padding: float = 0.25) -> None:
    """Score the built-in bird, as it is, under the cameras of the splits ``train`` and ``val``.

    Args:
        root: Folder in CUB's layout.
        size: Side of the masks in pixels.
        padding: Share of the box's longer side by which the crop exceeds the box.
    """
    template, renderer = bird(), HardRenderer()
    values = {}
    for split in ("train", "val"):
        dataset = CUBDataset(root, split, image_size=size, padding=padding)
        loader = DataLoader[Batch](dataset, 64)
        values[split] = torch.cat(
            [
                mask_iou(renderer.silhouette(template_mesh(template), b["camera"], size), b["mask"], soft=False)
                for b in tqdm(loader, split)
            ]
        )
    values["train + val"] = torch.cat(tuple(values.values()))
    for split, overlap in values.items():
        tqdm.write(f"{split}: {len(overlap)} images, mean hard IoU {overlap.mean():.4f}")
    residual = (template.vertices[template.part_vertices] - read_mean_parts(root / "sfm" / "mean_parts.csv")).norm(
        dim=-1
    )
    for name, value in zip(template.part_names, residual.tolist(), strict=True):
        tqdm.write(f"{name}: {value:.3f}")
    tqdm.write(f"parts: mean {residual.mean():.3f}, largest {residual.max():.3f} SfM units")


def draw(path: Path, *, size: int = 200) -> None:
    """Draw the built-in bird from 16 sides.

    Args:
        path: Picture to write.
        size: Side of each view in pixels.
    """
    level = [(45.0 * turn, 10.0) for turn in range(8)]
    others = [(0.0, 89.0), (90.0, 89.0), (0.0, -89.0), (90.0, -89.0), (60.0, 45.0), (150.0, 45.0), (60.0, -30.0)]
    azimuth, elevation = torch.tensor([*level, *others, (150.0, -30.0)]).deg2rad().unbind(-1)
    rotations = viewpoint_to_matrix(azimuth, elevation, torch.zeros_like(azimuth))
    views = mesh_views(template_mesh(bird()), size, rotations=rotations)
    to_pillow(image_grid([*views], columns=8, gap=0)).save(path)


if __name__ == "__main__":
    auto_cli([fit, build, score, draw])
