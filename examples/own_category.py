"""Make pictures of a category that is no bird: cars of random colors from random sides, with their masks.

python examples/own_category.py --out cars --count 200

The folder then holds ``images/`` and ``masks/``, laid out as your own photos would be; ``docs/own_category.md``
continues from there. Nothing else is written: no cameras, no shapes.
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from kpose.geometry import vertex_normals, viewpoint_to_matrix
from kpose.structures import Camera, Template
from kpose.templates import Limb, build_template, template_mesh
from kpose.visualization import shaded_mesh, to_pillow

BODY = (2.0, 0.8, 0.42)
FLAT_SIDES = 4.0
SIDEWAYS, BACKWARDS = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0)
WHEEL_PLACES = (-0.6, 0.6)
LIMBS = (
    *(Limb(0.3, place, -0.18, 0.1, 0.17, SIDEWAYS) for place in WHEEL_PLACES),
    *(Limb(aside, -0.05, 0.2, 0.5, 0.2, BACKWARDS) for aside in (0.0, 0.17)),  # the cabin
)
PAINTS = ((0.75, 0.12, 0.1), (0.15, 0.3, 0.65), (0.85, 0.85, 0.83), (0.2, 0.45, 0.25), (0.9, 0.7, 0.15))
GLASS, RUBBER, HUB = (0.12, 0.16, 0.2), (0.06, 0.06, 0.07), (0.6, 0.6, 0.62)
HEADLIGHT, TAIL_LIGHT = (0.98, 0.95, 0.75), (0.75, 0.03, 0.05)


def car(num_vertices: int) -> Template:
    """Build the car, 2 long: wheels and a cabin grow out of a body with flat sides."""
    return build_template(*BODY, LIMBS, exponent=FLAT_SIDES, num_vertices=num_vertices)


def paint(template: Template, color: tuple[float, float, float]) -> Tensor:
    """Color the vertices: body, windows, wheels and lights."""
    x, y, z = template.vertices.unbind(-1)
    side, ahead, above = vertex_normals(template.vertices, template.faces).abs().unbind(-1)
    colors = torch.tensor(color).repeat(len(x), 1)
    colors[(z > 0.17) & (above < 0.75) & (torch.maximum(side, ahead) > 0.4)] = torch.tensor(GLASS)
    for place in WHEEL_PLACES:
        distance = torch.hypot(y - place, z + 0.2)
        wheel = (distance < 0.2) & (x.abs() > 0.36)
        colors[wheel] = torch.tensor(RUBBER)
        colors[wheel & (distance < 0.09)] = torch.tensor(HUB)
    lights = (x.abs() > 0.2) & (z.abs() < 0.12) & (ahead > 0.6)
    colors[lights & (y < -0.8)] = torch.tensor(HEADLIGHT)
    colors[lights & (y > 0.8)] = torch.tensor(TAIL_LIGHT)
    return colors


def street(size: int, generator: torch.Generator) -> Tensor:
    """Paint a blurred backdrop: sky, a row of houses, road."""
    tones = 0.15 * torch.rand(1, 4, 6, generator=generator) + 0.08 * torch.rand(3, 4, 6, generator=generator)
    tones[:, 0] += torch.tensor([0.6, 0.7, 0.8])[:, None]
    tones[:, 1:3] += 0.2 + 0.2 * torch.rand(1, 1, 1, generator=generator)
    tones[:, 3] += 0.3
    blurred = torch.nn.functional.interpolate(tones[None], size=(size, size), mode="bicubic", align_corners=False)
    return blurred[0].clamp(0, 1)


def draw(out: Path, *, count: int = 200, size: int = 160, num_vertices: int = 1500, seed: int = 0) -> None:
    """Write pictures and masks.

    Args:
        out: Folder to write to.
        count: Number of pictures.
        size: Side of the pictures, in pixels.
        num_vertices: Vertices of the car that is drawn.
        seed: Of sides, colors and backdrops.
    """
    generator = torch.Generator().manual_seed(seed)
    template = car(num_vertices)
    for folder in ("images", "masks"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    for number in tqdm(range(count), desc="Drawing cars", unit=" img"):
        turn, rise, roll, near, right, down = (2 * torch.rand(6, generator=generator) - 1).unbind()
        rotation = viewpoint_to_matrix(turn * math.pi, 0.35 + 0.25 * rise, 0.1 * roll)
        camera = Camera(0.7 + 0.08 * near, 0.1 * torch.stack((right, down)), rotation)
        stretch = 1 + 0.12 * (2 * torch.rand(3, generator=generator) - 1)
        color = PAINTS[int(torch.randint(len(PAINTS), (), generator=generator))]
        mesh = template_mesh(template, template.vertices * stretch, vertex_colors=paint(template, color))
        rgb, mask = shaded_mesh(mesh, camera, size)
        image = torch.lerp(street(size, generator), rgb, mask)
        to_pillow(image).save(out / "images" / f"car_{number:04}.png")
        to_pillow((mask > 0.5).float().expand(3, -1, -1)).convert("L").save(out / "masks" / f"car_{number:04}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw cars of random colors from random sides, with their masks.")
    parser.add_argument("--out", type=Path, default=Path("cars"), help="folder to write to")
    parser.add_argument("--count", type=int, default=200, help="number of pictures")
    parser.add_argument("--size", type=int, default=160, help="side of the pictures, in pixels")
    parser.add_argument("--vertices", type=int, default=1500, help="vertices of the car that is drawn")
    parser.add_argument("--seed", type=int, default=0, help="of sides, colors and backdrops")
    options = parser.parse_args()
    draw(options.out, count=options.count, size=options.size, num_vertices=options.vertices, seed=options.seed)
