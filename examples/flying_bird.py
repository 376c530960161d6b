"""Render a video of a bird that crosses the frame and turns, to try `kpose video` on; needs ``kpose[video]``.

python examples/flying_bird.py --out flying_bird.mp4
"""

import argparse
import math
from pathlib import Path

import torch
from torch import Tensor
from trimesh.remesh import subdivide

from kpose._files import fresh_file
from kpose.data.bird_pictures import random_backdrop
from kpose.data.plumage import random_plumage
from kpose.data.scene import Draws
from kpose.geometry import axis_angle_to_matrix, mask_to_box, viewpoint_to_matrix
from kpose.structures import Camera, Mesh
from kpose.templates import bird
from kpose.visualization import VideoWriter, shaded_mesh, to_pillow

FPS = 25
VARIETY = 0.3  # of the plumage: that of the birds which the demo learns from
PITCH = math.radians(-40)  # bodies are held head-up, as in the pictures that heads learn from


def painted_bird(seed: int) -> Mesh:
    """Paint a plumage on the template, on a mesh that is fine enough to show its feathers."""
    template = bird()
    points, faces = template.vertices.double().numpy(), template.faces.numpy()
    for _ in range(2):
        points, faces = subdivide(points, faces)
    vertices = torch.from_numpy(points).float()
    [draws] = Draws(seed, [0]).rows()
    colors = random_plumage(vertices, template, draws, variety=VARIETY)
    return Mesh(vertices, torch.from_numpy(faces).long(), vertex_colors=colors)


def draw_frame(mesh: Mesh, backdrop: Tensor, time: float) -> tuple[Tensor, list[int]]:
    """Draw the bird at a time from 0 to 1, on its way to the right, up and down, turning; return its box too."""
    height, width = backdrop.shape[-2:]
    azimuth = math.radians(-95 + 80 * time)
    sway = math.sin(2 * math.pi * time)
    angles = (torch.tensor(angle) for angle in (azimuth, 0.1 * sway, 0.15 * sway))
    rotation = viewpoint_to_matrix(*angles) @ axis_angle_to_matrix(torch.tensor([PITCH, 0.0, 0.0]))
    flat = mesh.vertices @ rotation.mT
    center = (flat.amin(0) + flat.amax(0))[:2] / 2
    side = int(0.8 * height)
    scale = 0.9 / (mesh.vertices - mesh.vertices.mean(0)).norm(dim=-1).amax()
    rgb, mask = shaded_mesh(mesh, Camera(scale, -scale * center, rotation), side)
    left = int((0.04 + 0.92 * time) * (width - side))
    top = int((0.5 - 0.3 * sway) * (height - side))
    frame = backdrop.clone()
    window = frame[:, top : top + side, left : left + side]
    window += mask * (rgb - window)
    box = mask_to_box(mask > 0.5) or (0.0, 0.0, 0.0, 0.0)
    return frame, [int(edge) + shift for edge, shift in zip(box, (left, top, left, top), strict=True)]


def flying_bird(out: Path, *, seconds: float = 4.0, height: int = 270, seed: int = 13) -> list[int]:
    """Write the video.

    Args:
        out: MP4 file to write.
        seconds: Its length.
        height: Height of the frames in pixels, a multiple of 18; they are 16 : 9.
        seed: Seed of plumage and background.

    Returns:
        Box around the bird in the first frame: left, top, right, bottom in pixels.
    """
    width, count = height * 16 // 9, round(seconds * FPS)
    [draws] = Draws(seed, [0], stream=1).rows()
    backdrop = random_backdrop(width, torch.tensor([0.0, 2.0]), draws)[:, :height]
    mesh = painted_bird(seed)
    first: list[int] = []
    with fresh_file(out) as fresh, VideoWriter(fresh, (width, height)) as video:
        for number in range(count):
            frame, box = draw_frame(mesh, backdrop, number / count)
            first = box if number == 0 else first
            video.add(to_pillow(frame), number / FPS)
    return first


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Render a video of a bird that crosses the frame and turns.")
    parser.add_argument("--out", type=Path, default=Path("flying_bird.mp4"), help="MP4 file to write")
    parser.add_argument("--seed", type=int, default=13, help="seed of plumage and background")
    options = parser.parse_args()
    edges = flying_bird(options.out, seed=options.seed)
    print(f"Follow the bird with --box {' '.join(map(str, edges))}")
