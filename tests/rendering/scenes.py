"""Meshes and cameras that the tests of rendering share."""

import torch
import trimesh

from kpose.geometry import random_rotation
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
    """Give a mesh random texture coordinates, with a seam of its own for every face, and a random texture."""
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
