"""Four birds with known cameras, drawn by kpose, and the small networks that learn from them."""

from functools import partial

import torch

from kpose.geometry import box_to_crop, viewpoint_to_matrix
from kpose.reconstruction import CameraTable, MeshReconstructor, TextureHead, ViewpointGrid
from kpose.rendering import HardRenderer
from kpose.structures import Batch, Camera, Crop
from kpose.templates import bird, template_mesh

SIZE = 32
GRID = ViewpointGrid(azimuths=4, elevations=1)
small_reconstructor = partial(MeshReconstructor, texture=partial(TextureHead, height=16, width=4))


def birds(count=4, size=SIZE):
    """Draw birds colored by place on the body, seen from around."""
    template = bird()
    azimuth = 0.3 + torch.arange(count) * (2 * torch.pi / count)
    rotation = viewpoint_to_matrix(azimuth, torch.full((count,), 0.2), torch.zeros(count))
    camera = Camera(torch.full((count,), 0.75), torch.zeros(count, 2), rotation)
    low, high = template.vertices.aminmax(dim=0)
    mesh = template_mesh(template, vertex_colors=(template.vertices - low) / (high - low))
    seen = HardRenderer().render(mesh, camera, size)
    crop = box_to_crop(torch.tensor([0.0, 0.0, size, size]).expand(count, 4))
    return Batch(
        image=seen.rgb + 0.5 * (1 - seen.mask[:, None]),
        mask=seen.mask > 0.5,
        camera=camera,
        crop=crop,
        flipped=torch.zeros(count, dtype=torch.bool),
        index=10 + torch.arange(count),
    )


def items(batch):
    """Take a batch apart."""
    count = len(batch["index"])
    found = []
    for row in range(count):
        item = {name: value[row] for name, value in batch.items() if isinstance(value, torch.Tensor)}
        item |= {
            "camera": Camera(*(p[row] for p in batch["camera"])),
            "crop": Crop(*(p[row] for p in batch["crop"])),
        }
        found.append(item)
    return found


def camera_table(batch, grid=GRID):
    """Make cameras for the images of a batch, in its crops."""
    made = CameraTable(batch["index"], grid=grid)
    made.set_reference_crop(made.rows(batch["index"]), batch["crop"])
    return made
