"""Mesh files as symmetric solids, by way of voxels; SciPy and scikit-image come with the extra ``template``."""

import logging
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from scipy.signal import fftconvolve
from skimage.measure import euler_number
from trimesh import Trimesh
from trimesh.graph import connected_component_labels
from trimesh.grouping import group_rows

from kpose.templates.files import read_mesh
from kpose.templates.wrap import MARGIN, Solid

__all__ = ["mesh_solid"]

Voxels = Bool[np.ndarray, "nx ny nz"]

AXES = {f"{sign}{axis}": (place, -1.0 if sign == "-" else 1.0) for sign in "+-" for place, axis in enumerate("xyz")}

_log = logging.getLogger(__name__)


def mesh_solid(
    path: Path,
    *,
    front: str = "-y",
    up: str = "+z",
    tolerance: float = 0.1,
    max_hole: float = 0.1,
    cells: int = 96,
) -> tuple[Solid, float]:
    """Read a mesh file as a symmetric solid, and measure how asymmetric it was; see `template_from_mesh`."""
    rotation = _axes(front, up)
    vertices, faces, _, _ = read_mesh(path)
    mesh = _close(path, Trimesh(vertices @ rotation.T, faces, process=False), max_hole)
    cell = float(mesh.extents.max()) / cells
    inside, start, lost = _fill(mesh, cell)
    if lost:
        _log.warning("%s: the largest piece is kept; %.1f %% of the volume is left out.", path, 100 * lost)
    # The mirror image that overlaps most: of all sums of two places along x, the most frequent.
    overlap = fftconvolve(inside.astype(float), inside, axes=0).sum((1, 2))
    middle = start[0] + cell * overlap.argmax() / 2
    # Of places that the grid does not tell apart, the file's own plane is the likeliest, then the middle.
    for place in (0.0, mesh.bounds[:, 0].mean()):
        if abs(middle - place) <= cell / 2:
            middle = place
            break
    mesh.apply_translation((-middle, 0, 0))
    inside, start, _ = _fill(mesh, cell)
    # Voxels lie at multiples of their size: room on the shorter side makes the grid symmetric.
    excess = round(2 * start[0] / cell) + len(inside) - 1
    inside = np.pad(inside, ((max(excess, 0), max(-excess, 0)), (0, 0), (0, 0)))
    start[0] = -cell * (len(inside) - 1) / 2
    asymmetry = 1 - float((inside & inside[::-1]).sum() / (inside | inside[::-1]).sum())
    if asymmetry > tolerance:
        raise ValueError(
            f"A template needs a shape that is symmetric about x = 0; of {path} and its mirror image, "
            f"{asymmetry:.0%} of the volume is filled by one of the two only (allowed: {tolerance:.0%}). Check "
            "which axes are front and up, or accept it as it is (--symmetrize): the two are averaged."
        )
    distance = cell * _close_handles(path, inside)
    if not (distance < 0).any():
        raise ValueError(f"A template needs a solid with an inside; {path} encloses nothing. Check the mesh.")
    return Solid(torch.from_numpy((distance + distance[::-1]) / 2), torch.from_numpy(start), cell), asymmetry


def _axes(front: str, up: str) -> Float[np.ndarray, "3 3"]:
    """Rotation from a file's axes to the object frame: left, rear, up."""
    signed = [name if name[:1] in "+-" else f"+{name}" for name in (front, up)]
    if any(name not in AXES for name in signed) or signed[0][1:] == signed[1][1:]:
        raise ValueError(
            f"A template needs two different axes as front and up, such as -y and +z; got {front!r} and {up!r}. "
            "Correct them."
        )
    rows = np.zeros((2, 3))
    for row, name in enumerate(signed):
        place, sign = AXES[name]
        rows[row, place] = sign
    return np.stack((np.cross(rows[1], rows[0]), -rows[0], rows[1]))


def _close(path: Path, mesh: Trimesh, max_hole: float) -> Trimesh:
    """Fill the small holes, each by a fan around the middle of its border."""
    # Surfaces that are there twice, once for each side, count once.
    mesh.update_faces(mesh.nondegenerate_faces() & mesh.unique_faces())
    border = mesh.edges_sorted[group_rows(mesh.edges_sorted, require_count=1)]
    if not len(border):
        return mesh
    labels = connected_component_labels(border, node_count=len(mesh.vertices))[border[:, 0]]
    _, hole = np.unique(labels, return_inverse=True)
    rims = [mesh.vertices[np.unique(border[hole == number])] for number in range(hole.max() + 1)]
    longest = max(np.ptp(rim, axis=0).max() for rim in rims) / mesh.extents.max()
    if longest > max_hole:
        raise ValueError(
            f"A template needs a closed surface; {path} has {len(rims)} hole(s), {len(border)} edges in all. The "
            f"largest is {longest:.0%} of the mesh long (up to {max_hole:.0%} are filled). Close it, or allow "
            "larger ones (--max-hole)."
        )
    _log.warning("%s: %d small hole(s) are filled.", path, len(rims))
    fans = np.column_stack((border, len(mesh.vertices) + hole))
    vertices = np.vstack((mesh.vertices, [rim.mean(0) for rim in rims]))
    return Trimesh(vertices, np.vstack((mesh.faces, fans)), process=False)


def _fill(mesh: Trimesh, cell: float) -> tuple[Voxels, Float[np.ndarray, "3"], float]:
    """Voxels that the largest piece touches or encloses, the place of the first, and the share that is lost."""
    voxels = mesh.voxelized(cell).fill()
    pieces, _ = ndimage.label(voxels.matrix, np.ones((3, 3, 3)))
    sizes = np.bincount(pieces.flat)[1:]
    largest = np.pad(pieces == 1 + sizes.argmax(), MARGIN)
    return largest, voxels.translation - MARGIN * cell, 1 - float(sizes.max() / sizes.sum())


def _close_handles(path: Path, inside: Voxels) -> Float[np.ndarray, "nx ny nz"]:
    """Signed distance, once handles and cavities are closed by growing the solid and shrinking it again."""
    distance, radius = _signed_distance(inside), 0
    # What will be wrapped is smoothed: roughness that goes with it is no handle.
    while (distance < 0).any() and euler_number(distance < 0, connectivity=3) != 1 and radius < max(inside.shape):
        radius += 1 + radius // 2
        grown = ndimage.distance_transform_edt(~np.pad(inside, radius)) <= radius
        shrunk = ndimage.distance_transform_edt(grown) > radius
        distance = _signed_distance(shrunk[radius:-radius, radius:-radius, radius:-radius] | inside)
    if radius:
        _log.warning("%s: handles or cavities, or gaps that look like them, are filled.", path)
    return distance


def _signed_distance(inside: Voxels) -> Float[np.ndarray, "nx ny nz"]:
    """Smoothed distance, in voxels, to a surface through the middles of the outermost voxels; negative inside."""
    distance = ndimage.distance_transform_edt
    signed: Float[np.ndarray, "nx ny nz"] = distance(~inside) - (distance(inside) - 1).clip(0)
    for _ in range(2):
        signed = ndimage.uniform_filter(signed, 3, mode="nearest")
    return signed
