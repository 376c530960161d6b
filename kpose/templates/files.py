"""Templates in files: kpose's own format, and mesh files of other programs."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kpose._files import parse_json, write_file
from kpose.geometry._mesh import mirror_pairs, volume
from kpose.structures import Template
from kpose.templates.check import check_template
from kpose.templates.uv import spherical_uv

__all__ = ["load_template", "save_template"]

_FORMAT = "kpose.template"
_OWN = ".safetensors"
_MESHES = (".glb", ".obj", ".off", ".ply", ".stl")
_TENSORS = ("vertices", "faces", "uv", "uv_faces", "mirror", "part_vertices")


def save_template(template: Template, path: str | Path) -> None:
    """Write a template to a file that `load_template` reads back exactly.

    Args:
        template: Template.
        path: File ending in ``.safetensors``; its folder is made, an older file is replaced at once.

    Raises:
        ValueError: If the ending is another, or if the template is not valid (`check_template`).

    Example:
        >>> from kpose.templates import bird
        >>> path = getfixture("tmp_path") / "bird.safetensors"
        >>> save_template(bird(), path)
        >>> load_template(path).part_names[1]
        'beak'
    """
    path = Path(path)
    if path.suffix != _OWN:
        raise ValueError(f"save_template needs a file that ends in {_OWN}; got {path.name!r}. Rename it.")
    check_template(template)
    tensors = {name: getattr(template, name).detach().cpu().contiguous() for name in _TENSORS}
    metadata = {"format": _FORMAT, "part_names": json.dumps(template.part_names)}
    write_file(path, lambda fresh: fresh.write_bytes(save(tensors, metadata)))


def load_template(
    path: str | Path,
    parts: Mapping[str, tuple[float, float, float]] | None = None,
    *,
    tolerance: float = 1e-3,
) -> Template:
    """Read a template from a file of `save_template` or from a mesh file.

    A mesh file (GLB, OBJ, OFF, PLY or STL) must hold one closed surface of genus 0 in kpose's object frame:
    -y front, +z up, symmetric about ``x = 0``. Vertices at equal places are merged, each is averaged with its
    mirror partner so that the symmetry becomes exact, inward faces are turned, and texture coordinates are taken
    from the file or, if it has none, those of a sphere around the middle.

    Args:
        path: File.
        parts: Of a mesh file: for each part its position, for which the nearest vertex stands; parts with ``x = 0``
            stay on the symmetry plane. A file of `save_template` holds its own.
        tolerance: Of a mesh file: largest departure from symmetry, relative to the longest side of the mesh.

    Returns:
        Template, float32.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind or damaged, or if its mesh does not make a template; the message
            says what is wrong.

    Example:
        >>> from kpose.templates import bird, save_template
        >>> save_template(bird(), getfixture("tmp_path") / "bird.safetensors")
        >>> load_template(getfixture("tmp_path") / "bird.safetensors").vertices.shape
        torch.Size([642, 3])
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"load_template needs {path}; there is no such file. Check the path.")
    suffix = path.suffix.lower()
    if suffix == _OWN:
        if parts is not None:
            raise ValueError(
                f"load_template needs no parts for {path.name}; the file holds its own. Leave them out."
            )
        template = _read_own(path)
    elif suffix in _MESHES:
        template = _from_mesh(path, parts or {}, tolerance)
    else:
        raise ValueError(
            f"load_template needs a file that ends in one of {', '.join((_OWN, *_MESHES))}; got {path.name!r}. "
            "Convert it."
        )
    try:
        check_template(template)
    except ValueError as error:
        raise ValueError(f"load_template cannot use {path}: {error}") from error
    return template


def _read_own(path: Path) -> Template:
    try:
        with safe_open(path, "pt") as file:
            metadata, tensors = file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"load_template cannot read {path}: {error}. Save the template again.") from error
    if metadata.get("format") != _FORMAT or sorted(tensors) != sorted(_TENSORS):
        raise ValueError(
            f"load_template needs a file of save_template; got {path} with {sorted(tensors)}. Name another file."
        )
    try:
        names = parse_json(metadata["part_names"])
    except (KeyError, ValueError):
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"load_template needs the names of the parts; {path} has none. Save the template again.")
    return Template(part_names=tuple(names), **tensors)


def _from_mesh(path: Path, parts: Mapping[str, tuple[float, float, float]], tolerance: float) -> Template:
    places, corners, uv, uv_corners = read_mesh(path)
    vertices, faces = torch.from_numpy(places), torch.from_numpy(corners)
    try:
        mirror = mirror_pairs(vertices, tolerance)
    except ValueError as error:
        raise ValueError(f"load_template cannot use {path}: {error}") from error
    # Exact, as sums of two numbers do not depend on their order.
    vertices = ((vertices + vertices[mirror] * vertices.new_tensor([-1.0, 1.0, 1.0])) / 2 + 0.0).float()
    if uv is None:
        coordinates, uv_faces = spherical_uv(vertices, faces)
    else:
        coordinates, uv_faces = torch.from_numpy(uv).float(), torch.from_numpy(uv_corners)
    if volume(vertices, faces) < 0:
        faces, uv_faces = faces.flip(-1), uv_faces.flip(-1)
    index = torch.tensor([_nearest(vertices, mirror, place) for place in parts.values()], dtype=torch.long)
    return Template(vertices, faces, coordinates, uv_faces, mirror, tuple(parts), index)


def read_mesh(
    path: Path,
) -> tuple[
    Float[np.ndarray, "V 3"], Int[np.ndarray, "F 3"], Float[np.ndarray, "T 2"] | None, Int[np.ndarray, "F 3"]
]:
    """Read the triangles of a mesh file, and its texture coordinates, v down, with their rows for each corner."""
    if not path.is_file():
        raise FileNotFoundError(f"A template needs {path}; there is no such file. Check the path.")
    if path.suffix.lower() not in _MESHES:
        raise ValueError(f"A mesh file ends in one of {', '.join(_MESHES)}; got {path.name!r}. Convert it.")
    import trimesh  # here, as it takes a second that predictions need not wait for

    try:
        mesh = trimesh.load_mesh(path, process=False)
        places = np.array(mesh.vertices, dtype=np.float64)
        corners = np.array(mesh.faces, dtype=np.int64).reshape(-1, 3)
        bad = places.ndim != 2 or places.shape[1] != 3 or not 0 <= corners.min() <= corners.max() < len(places)
    except Exception as error:  # trimesh's readers raise whatever their parsers do
        raise ValueError(f"A template cannot be read from {path}: {error}. Export the mesh again.") from error
    if bad or not np.isfinite(places).all():
        raise ValueError(
            f"A template needs faces of the file's vertices, all finite; {path} has others. Export the mesh again."
        )
    extent = float(np.ptp(places, axis=0).max())
    # Files repeat vertices along texture seams, STL at every face.
    first, merged = trimesh.grouping.unique_rows(places / (1e-6 * extent or 1.0), digits=0, keep_order=True)
    uv = getattr(mesh.visual, "uv", None)
    if uv is None or len(uv) != len(places):
        return places[first], merged.reshape(-1)[corners], None, corners
    # trimesh's v points up.
    return places[first], merged.reshape(-1)[corners], np.asarray(uv)[:, :2] * [1.0, -1.0] + [0.0, 1.0], corners


def _nearest(vertices: Tensor, mirror: Tensor, place: tuple[float, float, float]) -> int:
    middle = mirror == torch.arange(len(mirror))
    distance = (vertices - vertices.new_tensor(place)).norm(dim=-1)
    allowed = middle if place[0] == 0 and middle.any() else torch.ones_like(middle)
    return int(torch.where(allowed, distance, torch.inf).argmin())
