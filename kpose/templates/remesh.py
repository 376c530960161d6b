"""Finer and coarser triangulations of mirror-symmetric closed surfaces that are maps of a sphere."""

import heapq
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float, Int
from torch import Tensor

from kpose.geometry import mirror_pairs

__all__ = ["SphereMap", "collapse_short_edges", "geodesic_sphere", "split_long_edges"]

MOST_NEIGHBOURS = 9
LEAST_TURN = 0.3  # cosine by which a face may turn when an edge goes
SPECK = 0.02  # smaller faces, as a share of the mean, may turn as they like


Faces = dict[int, tuple[int, int, int]]


class SphereMap(NamedTuple):
    """Closed surface of genus 0, symmetric about ``x = 0``, each vertex with its place on the unit sphere."""

    vertices: Float[Tensor, "V 3"]
    """Positions."""
    sphere: Float[Tensor, "V 3"]
    """Places on the unit sphere; the faces cover it once."""
    faces: Int[Tensor, "F 3"]
    """Vertex indices, counter-clockwise seen from outside."""
    mirror: Int[Tensor, "V"]
    """Mirror partner of each vertex."""


def geodesic_sphere(frequency: int) -> SphereMap:
    """Divide the faces of an icosahedron evenly and push the corners out to the unit sphere.

    Args:
        frequency: Parts of each edge of the icosahedron; gives ``10 frequency² + 2`` vertices.

    Returns:
        The sphere, float64.

    Example:
        >>> geodesic_sphere(8).vertices.shape
        torch.Size([642, 3])
    """
    import trimesh  # here, as it takes a second that predictions need not wait for

    base = trimesh.creation.icosahedron()
    corners = torch.from_numpy(np.array(base.vertices))[torch.from_numpy(np.array(base.faces))]
    cells = [(i, j) for i in range(frequency + 1) for j in range(frequency + 1 - i)]
    number = {cell: place for place, cell in enumerate(cells)}
    upright = [(i, j) for i, j in cells if i + j < frequency]
    hanging = [(i, j) for i, j in cells if i + j < frequency - 1]
    pattern = [(number[i, j], number[i + 1, j], number[i, j + 1]) for i, j in upright]
    pattern += [(number[i + 1, j], number[i + 1, j + 1], number[i, j + 1]) for i, j in hanging]
    shares = torch.tensor(cells, dtype=torch.float64) / frequency
    shares = torch.cat((shares, 1 - shares.sum(1, keepdim=True)), 1)
    points = (shares @ corners).reshape(-1, 3)
    offsets = len(cells) * torch.arange(len(corners))
    faces = (torch.tensor(pattern) + offsets[:, None, None]).reshape(-1, 3)
    _, first, inverse = np.unique((1e6 * points).round().numpy(), axis=0, return_index=True, return_inverse=True)
    points, faces = points[torch.from_numpy(first)], torch.from_numpy(inverse.reshape(-1))[faces]
    points = torch.nn.functional.normalize(points, dim=-1)
    mirror = mirror_pairs(points)
    points = (points + points[mirror] * points.new_tensor([-1.0, 1.0, 1.0])) / 2 + 0.0
    return SphereMap(points, points, faces, mirror)


def split_long_edges(surface: SphereMap, length: float) -> SphereMap:
    """Halve the edges that are too long, once.

    Args:
        surface: Surface.
        length: Edges that are longer are halved, and some more, so that of each face one edge or all are.

    Returns:
        Surface with vertices added at the end; places on the sphere are halved along with the edges.
    """
    vertices, sphere, faces, mirror = surface
    count = len(vertices)
    corners = torch.stack((faces, faces.roll(-1, 1)), -1)
    if float((vertices[corners[..., 0]] - vertices[corners[..., 1]]).norm(dim=-1).max()) <= length:
        return surface
    # An edge as one number, so that equal ones are found by sorting numbers.
    keys, rows = np.unique(_key(corners, count).numpy(), return_inverse=True)
    known, side = torch.from_numpy(keys), torch.from_numpy(rows.reshape(-1, 3))
    edges = torch.stack((known // count, known % count), 1)
    partner = torch.searchsorted(known, _key(mirror[edges], count))
    marked = (vertices[edges[:, 0]] - vertices[edges[:, 1]]).norm(dim=-1) > length
    while True:
        marked = marked | marked[partner]
        two = marked[side].sum(1) == 2
        if not two.any():
            break
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
    return SphereMap(
        torch.cat((vertices, vertices[ends].mean(1))),
        torch.cat((sphere, torch.nn.functional.normalize(sphere[ends].sum(1), dim=-1))),
        torch.cat(kept),
        torch.cat((mirror, added[partner[marked]])),
    )


def _key(ends: Tensor, count: int) -> Tensor:
    return ends.amin(-1) * count + ends.amax(-1)


def collapse_short_edges(surface: SphereMap, num_vertices: int) -> SphereMap:
    """Take vertices away by drawing the shortest edges together, one by one, in mirror pairs.

    An edge stays if the surface would touch itself, a face turn by more than 70 degrees, or the map of the sphere
    fold; so the result may keep more vertices than it was asked for.

    Args:
        surface: Surface.
        num_vertices: Number of vertices to come down to, or one less.

    Returns:
        Surface of some of the vertices.
    """
    return _Collapse(surface).run(num_vertices)


class _Collapse:
    """Edge collapses on Python lists: small and scattered work that tensors are slow at."""

    def __init__(self, surface: SphereMap) -> None:
        self.surface = surface
        self.points: npt.NDArray[np.float64] = surface.vertices.double().numpy()
        self.sphere: npt.NDArray[np.float64] = surface.sphere.double().numpy()
        self.mirror: list[int] = surface.mirror.tolist()
        self.faces: Faces = {row: (a, b, c) for row, (a, b, c) in enumerate(surface.faces.tolist())}
        self.around: list[set[int]] = [set() for _ in self.mirror]
        for number, corners in self.faces.items():
            for vertex in corners:
                self.around[vertex].add(number)
        self.left = len(self.mirror)
        corners = self.points[surface.faces.numpy()]
        areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
        self.speck = SPECK * float(areas.mean())

    def run(self, count: int) -> SphereMap:
        """Collapse edges until as many vertices are left."""
        heap: list[tuple[float, int, int]] = []
        for vertex in range(len(self.mirror)):
            self._offer(heap, vertex, self._neighbors(vertex))
        while heap and self.left > count:
            _, gone, kept = heapq.heappop(heap)
            if not self.around[gone] or not self.around[kept] or kept not in self._neighbors(gone):
                continue
            pairs = [(gone, kept)]
            if (other := self.mirror[gone]) != gone:
                pairs.append((other, self.mirror[kept]))
            if self._collapse(pairs):
                for _, vertex in pairs:
                    self._offer(heap, vertex, self._neighbors(vertex))
        return self._result()

    def _offer(self, heap: list[tuple[float, int, int]], vertex: int, neighbors: set[int]) -> None:
        for other in neighbors:
            length = float(np.linalg.norm(self.points[vertex] - self.points[other]))
            for gone, kept in ((vertex, other), (other, vertex)):
                # A vertex on the plane joins another one there; the right side follows the left.
                plane = self.mirror[gone] == gone
                if (not plane or self.mirror[kept] == kept) and kept != self.mirror[gone]:
                    heapq.heappush(heap, (round(length, 9), gone, kept))

    def _neighbors(self, vertex: int) -> set[int]:
        return {corner for face in self.around[vertex] for corner in self.faces[face]} - {vertex}

    def _collapse(self, pairs: list[tuple[int, int]]) -> bool:
        """Draw an edge together, and its mirror image; or neither, if that is not possible."""
        done: list[tuple[Faces, Faces]] = []
        for gone, kept in pairs:
            change = self._change(gone, kept)
            if change is None:
                for undo in reversed(done):
                    self._apply(*undo, back=True)
                return False
            self._apply(*change, back=False)
            done.append(change)
        self.left -= len(pairs)
        return True

    def _change(self, gone: int, kept: int) -> tuple[Faces, Faces] | None:
        """Give the faces that go and those that come, or None if the edge has to stay."""
        near, far = self._neighbors(gone), self._neighbors(kept)
        if kept not in near or len(near & far) != 2 or len(near | far) - 2 > MOST_NEIGHBOURS:
            return None
        before = {face: self.faces[face] for face in self.around[gone]}
        after: Faces = {}
        for face, corners in before.items():
            if kept not in corners:
                a, b, c = (kept if corner == gone else corner for corner in corners)
                after[face] = (a, b, c)
        rows = np.array(list(after.values()))
        old = np.array([before[face] for face in after])
        if not self._upright(old, rows):
            return None
        return before, after

    def _upright(self, old: npt.NDArray[np.int64], new: npt.NDArray[np.int64]) -> bool:
        """Say whether faces keep their side, on the surface and on the sphere."""
        if (np.linalg.det(self.sphere[new]) <= 1e-15).any():
            return False
        first, second = (
            np.cross(self.points[f[:, 1]] - self.points[f[:, 0]], self.points[f[:, 2]] - self.points[f[:, 0]])
            for f in (old, new)
        )
        turn = (first * second).sum(1)
        old_area, new_area = np.linalg.norm(first, axis=1), np.linalg.norm(second, axis=1)
        return bool(((turn > LEAST_TURN * old_area * new_area) | (old_area < self.speck)).all())

    def _apply(self, before: Faces, after: Faces, *, back: bool) -> None:
        gone, come = (after, before) if back else (before, after)
        for face, corners in gone.items():
            self.faces.pop(face)
            for corner in corners:
                self.around[corner].discard(face)
        for face, corners in come.items():
            self.faces[face] = corners
            for corner in corners:
                self.around[corner].add(face)

    def _result(self) -> SphereMap:
        kept = [vertex for vertex, faces in enumerate(self.around) if faces]
        number = torch.full((len(self.mirror),), -1)
        number[kept] = torch.arange(len(kept))
        return SphereMap(
            self.surface.vertices[kept],
            self.surface.sphere[kept],
            number[torch.tensor(list(self.faces.values()))],
            number[self.surface.mirror[kept]],
        )
