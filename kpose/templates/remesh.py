"""Finer and coarser triangulations of one half of a mirror-symmetric closed surface, which is a map of a sphere."""

import heapq
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["HalfMap", "collapse_short_edges", "half_sphere", "split_long_edges"]

MAX_NEIGHBORS = 9
MIN_TURN = 0.3  # cosine by which a face may turn when an edge goes
SPECK = 0.02  # smaller faces, as a share of the mean, may turn as they like


class HalfMap(NamedTuple):
    """Left half of a closed surface of genus 0 that is symmetric about ``x = 0``, where its border lies."""

    vertices: Float[Tensor, "V 3"]
    """Positions; x is exactly 0 on the border and nowhere else."""
    sphere: Float[Tensor, "V 3"]
    """Places on the unit sphere, whose left half the faces cover once."""
    faces: Int[Tensor, "F 3"]
    """Vertex indices, counter-clockwise seen from outside."""

    def whole(self) -> tuple["HalfMap", Int[Tensor, "W"]]:
        """Join the half and its mirror image; returned are the surface and the mirror partner of each vertex."""
        sign = self.sphere.new_tensor([-1.0, 1.0, 1.0])
        inner = (self.sphere[:, 0] != 0).nonzero().flatten()
        image = torch.arange(len(self.vertices))
        image[inner] = len(image) + torch.arange(len(inner))
        vertices, sphere = (torch.cat((half, half[inner] * sign)) for half in (self.vertices, self.sphere))
        faces = torch.cat((self.faces, image[self.faces].flip(-1)))
        return HalfMap(vertices, sphere, faces), torch.cat((image, inner))


def half_sphere(divisions: int) -> HalfMap:
    """Half of a sphere, whose whole has ``4 · 4^divisions + 2`` vertices: that of an octahedron, pushed out."""
    import trimesh  # here, as it takes a second that predictions need not wait for

    points = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, -1, 0], [0, 0, -1]])
    faces = np.array([[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 4, 1]])
    for _ in range(divisions):
        points, faces = trimesh.remesh.subdivide(points, faces)
        points = points / np.linalg.norm(points, axis=1, keepdims=True)
    sphere = torch.from_numpy(points)
    return HalfMap(sphere, sphere, torch.from_numpy(np.array(faces, dtype=np.int64)))


def split_long_edges(surface: HalfMap, length: float) -> HalfMap:
    """Halve the edges that are too long, once, and some more, so that of each face one edge or all are halved.

    New vertices come last; their places on the sphere halve the edges there.
    """
    vertices, sphere, faces = surface
    ends, count = torch.stack((faces, faces.roll(-1, 1)), -1), len(vertices)
    # An edge as one number, as equal numbers are found much faster than equal rows.
    known, side = torch.unique(ends.amin(-1) * count + ends.amax(-1), return_inverse=True)
    edges = torch.stack((known // count, known % count), 1)
    marked = (vertices[edges[:, 0]] - vertices[edges[:, 1]]).norm(dim=-1) > length
    if not marked.any():
        return surface
    while (two := marked[side].sum(1) == 2).any():
        marked[side[two]] = True
    added = torch.full((len(edges),), -1)
    added[marked] = count + torch.arange(int(marked.sum()))
    middle, split = added[side], marked[side].sum(1)
    kept = [faces[split == 0]]
    for k in range(3):
        one = (split == 1) & (middle[:, k] >= 0)
        a, b, c, m = *(faces[one][:, (k + shift) % 3] for shift in range(3)), middle[one][:, k]
        kept += [torch.stack((a, m, c), 1), torch.stack((m, b, c), 1)]
    a, b, c = faces[split == 3].unbind(1)
    ab, bc, ca = middle[split == 3].unbind(1)
    kept += [torch.stack(corners, 1) for corners in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
    ends = edges[marked]
    return HalfMap(
        torch.cat((vertices, vertices[ends].mean(1))),
        torch.cat((sphere, torch.nn.functional.normalize(sphere[ends].sum(1), dim=-1))),
        torch.cat(kept),
    )


def collapse_short_edges(surface: HalfMap, num_vertices: int) -> HalfMap:
    """Draw the shortest edges together until the whole surface has a number of vertices, or one less.

    An edge stays if the surface would touch itself, a face turn by more than 70 degrees, or the map of the sphere
    fold; so more vertices than asked for may be left.
    """
    return _Collapse(surface).run(num_vertices)


class _Collapse:
    """Edge collapses on Python lists: small and scattered work that tensors are slow at."""

    def __init__(self, surface: HalfMap) -> None:
        self.surface = surface
        self.points, self.sphere = surface.vertices.numpy(), surface.sphere.numpy()
        self.border: list[bool] = (surface.sphere[:, 0] == 0).tolist()
        self.faces: dict[int, list[int]] = dict(enumerate(surface.faces.tolist()))
        self.around: list[set[int]] = [set() for _ in self.border]
        for number, corners in self.faces.items():
            for vertex in corners:
                self.around[vertex].add(number)
        corners = self.points[surface.faces.numpy()]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        self.speck = SPECK * float(areas.mean())
        self.heap: list[tuple[float, int, int]] = []

    def run(self, count: int) -> HalfMap:
        left = 2 * len(self.border) - sum(self.border)
        for vertex in range(len(self.border)):
            self._offer(vertex)
        while self.heap and left > count:
            _, gone, kept = heapq.heappop(self.heap)
            if self._collapse(gone, kept):
                left -= 1 if self.border[gone] else 2
                self._offer(kept)
        vertices = [vertex for vertex, faces in enumerate(self.around) if faces]
        number = torch.full((len(self.border),), -1)
        number[vertices] = torch.arange(len(vertices))
        faces = number[torch.tensor(list(self.faces.values()))]
        return HalfMap(self.surface.vertices[vertices], self.surface.sphere[vertices], faces)

    def _offer(self, vertex: int) -> None:
        for other in self._neighbors(vertex):
            length = round(float(np.linalg.norm(self.points[vertex] - self.points[other])), 9)
            for gone, kept in ((vertex, other), (other, vertex)):
                # A vertex on the border joins another one there.
                if self.border[kept] or not self.border[gone]:
                    heapq.heappush(self.heap, (length, gone, kept))

    def _neighbors(self, vertex: int) -> set[int]:
        return {corner for face in self.around[vertex] for corner in self.faces[face]} - {vertex}

    def _collapse(self, gone: int, kept: int) -> bool:
        """Draw an edge together, unless it has to stay."""
        near, far = self._neighbors(gone), self._neighbors(kept)
        both = near & far
        if kept not in near or len(both) != (1 if self.border[gone] else 2):
            return False
        # No edge but those of the border joins two of its vertices: mirrored, it would be there twice.
        if self.border[kept] and not self.border[gone] and any(self.border[other] for other in near - far - {kept}):
            return False
        size = len(near | far) - 2
        if (2 * size - 2 if self.border[kept] else size) > MAX_NEIGHBORS:
            return False
        moved = [face for face in self.around[gone] if kept not in self.faces[face]]
        old = np.array([self.faces[face] for face in moved])
        new = np.where(old == gone, kept, old)
        if not self._is_upright(old, new):
            return False
        for face in self.around[gone] - set(moved):
            for corner in self.faces.pop(face):
                self.around[corner].discard(face)
        for face, corners in zip(moved, new.tolist(), strict=True):
            self.faces[face] = corners
            self.around[kept].add(face)
        self.around[gone] = set()
        return True

    def _is_upright(self, old: Int[np.ndarray, "F 3"], new: Int[np.ndarray, "F 3"]) -> bool:
        """Whether faces keep their side, on the surface and on the sphere."""
        if (np.linalg.det(self.sphere[new]) <= 1e-15).any():
            return False
        first, second = (
            np.cross(self.points[f[:, 1]] - self.points[f[:, 0]], self.points[f[:, 2]] - self.points[f[:, 0]])
            for f in (old, new)
        )
        turn = (first * second).sum(1)
        old_area, new_area = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
        return bool(((turn > MIN_TURN * old_area * new_area) | (old_area < self.speck)).all())
