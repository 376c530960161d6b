"""Tables of random cameras."""

import torch

from kpose.geometry import random_rotation
from kpose.reconstruction import CameraTable, ViewpointGrid
from kpose.structures import Camera, Crop

GRID = ViewpointGrid(azimuths=3, elevations=2)


def table(images: int = 5, seed: int = 0) -> CameraTable:
    """Make a table of random cameras, crops and scores."""
    made = CameraTable(torch.arange(images) * 10 + 3, names=[f"bird {i}" for i in range(images)], grid=GRID)
    generator = torch.Generator().manual_seed(seed)
    rows = torch.arange(images)
    shape = (images, made.num_cameras)
    cameras = Camera(
        0.5 + torch.rand(shape, generator=generator),
        torch.randn(*shape, 2, generator=generator) * 0.1,
        random_rotation(shape, generator=generator),
    )
    crop = Crop(torch.rand(images, generator=generator) + 0.1, torch.randn(images, 2, generator=generator))
    made.set_reference_crop(rows, crop)
    made.set_cameras(rows, cameras, torch.rand(shape, generator=generator))
    return made


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copy the buffers of a module."""
    return {name: buffer.clone() for name, buffer in module.named_buffers()}
