"""Time the soft silhouette beside a dense rasterizer and, where they are installed, NVIDIA Warp and PyTorch3D.

Forward and backward, one thread, batch 8, an icosphere of 642 vertices and 1,280 faces, sigma 1e-4: milliseconds an
image, the fastest of several runs. The last line is one JSON object.

    python benchmarks/rendering.py
"""

import importlib.util
import json
import math
import time
import warnings
from collections.abc import Callable

import torch
import trimesh
from torch import Tensor
from torch.nn.functional import softplus

from kpose.geometry import random_rotation, to_image_frame
from kpose.rendering import CompositeRenderer, HardRenderer, Renderer, SoftRenderer
from kpose.structures import Camera, Mesh

BATCH = 8
SIGMA = 1e-4
SIZES = (64, 128)


def scene() -> tuple[Mesh, Camera]:
    """Make a batch of spheres, textured and colored at random, under cameras that fill the image."""
    shape = trimesh.creation.icosphere(subdivisions=3)
    generator = torch.Generator().manual_seed(0)
    vertices = torch.tensor(shape.vertices, dtype=torch.float32).expand(BATCH, -1, -1).contiguous()
    faces = torch.tensor(shape.faces).long()
    mesh = Mesh(
        vertices,
        faces,
        uv=torch.rand(vertices.shape[1], 2, generator=generator),
        uv_faces=faces,
        texture=torch.rand(BATCH, 3, 128, 256, generator=generator),
        vertex_colors=torch.rand(vertices.shape, generator=generator),
    )
    rotation = random_rotation((BATCH,), generator=generator)
    return mesh, Camera(torch.full((BATCH,), 0.7), torch.zeros(BATCH, 2), rotation)


def milliseconds(run: Callable[[], None], images: int, seconds: float = 8.0) -> float:
    """Return the fastest of the runs that fit into some seconds, after one to warm up; at least two, at most 60."""
    run()
    best, runs, start = math.inf, 0, time.perf_counter()
    while runs < 2 or (runs < 60 and time.perf_counter() - start < seconds):
        before = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - before)
        runs += 1
    return 1e3 * best / images


def silhouette(renderer: Renderer, mesh: Mesh, camera: Camera, size: int) -> Callable[[], None]:
    """Return a run of the silhouette, forward and backward."""

    def run() -> None:
        vertices = mesh.vertices.clone().requires_grad_()
        renderer.silhouette(Mesh(vertices, mesh.faces), camera, size).sum().backward()

    return run


def picture(renderer: Renderer, mesh: Mesh, camera: Camera, size: int) -> Callable[[], None]:
    """Return a run of mask and colors, forward and backward."""

    def run() -> None:
        vertices = mesh.vertices.clone().requires_grad_()
        rendering = renderer.render(mesh._replace(vertices=vertices), camera, size)
        ((rendering.depth if rendering.rgb is None else rendering.rgb).nan_to_num(posinf=0).sum()).backward()

    return run


def dense_mask(corners: Tensor, pixels: Tensor) -> Tensor:
    """Rasterize every face at every pixel, the simplest way."""
    a = corners[:, None, :, :2]
    edge = a.roll(-1, -2) - a
    offset = pixels[None, :, None] - a
    along = ((offset * edge).sum(-1) / edge.square().sum(-1).clamp_min(1e-12)).clamp(0, 1)
    squared = (along.unsqueeze(-1) * edge - offset).square().sum(-1).amin(-1)
    cross = edge[..., 0] * offset[..., 1] - edge[..., 1] * offset[..., 0]
    inside = (cross > 0).all(-1) | (cross < 0).all(-1)
    return -torch.expm1(-softplus(torch.where(inside, squared, -squared) / SIGMA).sum(0))


def dense(mesh: Mesh, camera: Camera, size: int) -> Callable[[], None]:
    """Return a run of the dense rasterizer on one image, a few rows at a time to bound memory."""
    line = (2 * torch.arange(size) + 1) / size - 1
    pixels = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(-1, 2)

    def run() -> None:
        vertices = mesh.vertices[0].clone().requires_grad_()
        for part in pixels.split(1024):
            corners = to_image_frame(vertices, Camera(*(value[0] for value in camera)))[mesh.faces]
            dense_mask(corners, part).sum().backward()

    return run


def pytorch3d_renderer() -> Renderer | None:
    """Return PyTorch3D's renderer, None where it is not installed."""
    if importlib.util.find_spec("pytorch3d") is None:
        return None
    from kpose.rendering import PyTorch3DRenderer

    warnings.simplefilter("ignore")
    return PyTorch3DRenderer(SIGMA, faces_per_pixel=50)


def warp_renderer() -> Renderer | None:
    """Return the renderer on Warp, None where it is not installed."""
    if importlib.util.find_spec("warp") is None:
        return None
    from kpose.rendering import WarpRenderer

    return WarpRenderer(SIGMA)


def main() -> None:
    """Print the table and the JSON line."""
    torch.set_num_threads(1)
    mesh, camera = scene()
    bare = mesh._replace(texture=None, vertex_colors=None)
    textured, colored = mesh._replace(vertex_colors=None), mesh._replace(texture=None)
    soft, composite, hard = SoftRenderer(SIGMA), CompositeRenderer(SIGMA), HardRenderer()
    peer, compiled = pytorch3d_renderer(), warp_renderer()
    rows: list[tuple[str, int, Callable[[int], Callable[[], None]] | None]] = [
        ("soft silhouette, kpose", BATCH, lambda size: silhouette(soft, bare, camera, size)),
        ("soft silhouette, every face x every pixel", 1, lambda size: dense(mesh, camera, size)),
        ("soft silhouette, PyTorch3D, 50 faces a pixel", BATCH, None),
        ("silhouette + z-buffer with depth, kpose", BATCH, lambda size: picture(composite, bare, camera, size)),
        ("texture, composite, kpose", BATCH, lambda size: picture(composite, textured, camera, size)),
        ("vertex colors, softmax, kpose", BATCH, lambda size: picture(soft, colored, camera, size)),
        ("texture, hard, kpose", BATCH, lambda size: picture(hard, textured, camera, size)),
        ("soft silhouette, Warp", BATCH, None),
        ("texture, composite, Warp", BATCH, None),
    ]
    if compiled is not None:
        rows[7] = (rows[7][0], BATCH, lambda size: silhouette(compiled, bare, camera, size))
        rows[8] = (rows[8][0], BATCH, lambda size: picture(compiled, textured, camera, size))
    if peer is not None:
        rows[2] = (rows[2][0], BATCH, lambda size: silhouette(peer, bare, camera, size))
    print(f"{'ms an image, forward + backward, one thread':<46}" + "".join(f"{size:>11} px" for size in SIZES))
    times: list[list[float]] = []
    for name, images, make in rows:
        times.append([math.nan if make is None else milliseconds(make(size), images) for size in SIZES])
        cells = ("not installed" if math.isnan(value) else f"{value:.2f}" for value in times[-1])
        print(f"{name:<46}" + "".join(f"{cell:>14}" for cell in cells), flush=True)
    ratio = times[2][0] / times[0][0]
    result = {
        "soft_ms_64": round(times[0][0], 3),
        "soft_ms_128": round(times[0][1], 3),
        "dense_over_soft_64": round(times[1][0] / times[0][0], 1),
        "pytorch3d_over_soft_64": None if math.isnan(ratio) else round(ratio, 1),
        "warp_ms_64": None if compiled is None else round(times[7][0], 3),
        "warp_ms_128": None if compiled is None else round(times[7][1], 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
