"""Meshes and cameras that the tests of rendering share."""

from pathlib import Path

import numpy as np
import torch
import trimesh

from kpose.geometry import random_rotation
from kpose.rendering import CompositeRenderer, WarpRenderer
from kpose.structures import Camera, Mesh

IDENTITY = Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3))


def sphere(subdivisions=2, dtype=torch.float32):
    shape = trimesh.creation.icosphere(subdivisions=subdivisions)
    return Mesh(torch.as_tensor(shape.vertices.copy(), dtype=dtype), torch.as_tensor(shape.faces.copy()).long())


def cameras(*batch, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    scale = 0.4 + 0.3 * torch.rand(batch, generator=generator, dtype=dtype)
    translation = 0.3 * torch.randn(*batch, 2, generator=generator, dtype=dtype)
    return Camera(scale, translation, random_rotation(batch, generator=generator, dtype=dtype))


def lumpy(*batch, seed=0, dtype=torch.float32):
    """Deformed spheres, which hide parts of themselves."""
    mesh = sphere(dtype=dtype)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(*batch, len(mesh.vertices), 1, generator=generator, dtype=dtype)
    return mesh._replace(vertices=mesh.vertices * (1 + 0.2 * noise))


def textured(mesh, height=16, width=32, *batch):
    """Put random texture coordinates, with a seam of its own for every face, and a random texture on a mesh."""
    generator = torch.Generator().manual_seed(1)
    num_faces = len(mesh.faces)
    uv = torch.rand(3 * num_faces, 2, generator=generator, dtype=mesh.vertices.dtype)
    texture = torch.rand(*batch, 3, height, width, generator=generator, dtype=mesh.vertices.dtype)
    return mesh._replace(uv=uv, uv_faces=torch.arange(3 * num_faces).view(-1, 3), texture=texture)


def colored(mesh):
    generator = torch.Generator().manual_seed(1)
    return mesh._replace(
        vertex_colors=torch.rand(mesh.vertices.shape, generator=generator, dtype=mesh.vertices.dtype)
    )


def centers(size):
    """Return the centers of an image's pixels."""
    line = (2 * torch.arange(size) + 1) / size - 1
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def read_golden():
    """Read what PyTorch3D drew."""
    path = Path(__file__).parents[1] / "golden" / "pytorch3d_renders.npz"
    return {key: torch.from_numpy(value) for key, value in np.load(path).items()}


def golden_mesh(golden):
    return Mesh(golden["projected"] - torch.tensor([0.0, 0.0, 5.0]), golden["faces"].long())


def gradients(renderer, mesh, camera, size):
    """Compute the mask, and gradients of a random sum of it with respect to vertices and camera."""
    inputs = [part.clone().requires_grad_() for part in (mesh.vertices, *camera)]
    mask = renderer.silhouette(mesh._replace(vertices=inputs[0]), Camera(*inputs[1:]), size)
    weight = torch.rand(mask.shape, generator=torch.Generator().manual_seed(3))
    return mask.detach(), torch.autograd.grad((mask * weight).sum(), inputs)


def assert_same(mesh, camera, size, sigma, cull=False):
    """Check that Warp draws what plain torch draws."""
    results = [
        gradients(maker(sigma, cull_back_faces=cull), mesh, camera, size)
        for maker in (CompositeRenderer, WarpRenderer)
    ]
    # At a sigma of 1e-5, float32 itself is worth 1.3e-5; at the others this is 5e-7.
    torch.testing.assert_close(results[1][0], results[0][0], atol=2e-5, rtol=0)
    for plain, compiled in zip(results[0][1], results[1][1], strict=True):
        if plain.any():
            assert torch.cosine_similarity(plain.flatten(), compiled.flatten(), dim=0) > 0.99999
        assert (plain - compiled).abs().max() <= 2e-4 * plain.abs().max()
