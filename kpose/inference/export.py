"""Meshes in the files of other programs: GLB, OBJ and PLY, with texture and without a seam."""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from kornia.color import rgb_to_linear_rgb
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import grid_sample, pad
from trimesh.exchange.obj import export_obj
from trimesh.exchange.ply import export_ply
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial

from kpose._files import safe_name, write_file
from kpose._precision import widened
from kpose.geometry import vertex_normals
from kpose.structures import Mesh
from kpose.visualization import from_pillow, to_pillow

__all__ = ["save_mesh", "to_trimesh"]

Array = NDArray[Any]

CLAY = (0.48, 0.54, 0.60)  # linear; that of a mesh which has no colors of its own
# Rows are the file's axes: x stays, y is kpose's z, z is kpose's -y.
Y_UP = ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))


def save_mesh(mesh: Mesh, path: str | Path, *, overwrite: bool = False) -> list[Path]:
    """Write one mesh to a file that other programs read, with its texture or vertex colors if it has any.

    The axes are those that each format's readers expect. GLB, by its specification, and OBJ, by custom, have +y up
    and +z to the front: what kpose has at ``(x, y, z)`` is at ``(x, z, -y)``; Blender's importers turn it back. PLY
    has no custom and keeps kpose's object frame, +z up and -y to the front. All are right-handed.

    A texture image is written with one more pixel on every side, which repeats what lies beyond (around the object
    from side to side, the border at the poles), and the texture coordinates are shrunk to fit. So every program
    interpolates as kpose does, whether it repeats textures or stops at their edges, and no seam shows.

    Args:
        mesh: One mesh, without leading dimensions.
        path: File ending in ``.glb``, ``.obj`` or ``.ply``; its folder is made. A texture is inside a GLB file, and
            beside the others: ``bird_texture.png`` and the material ``bird.mtl`` for OBJ, ``bird.ply.png`` for PLY,
            which has its colors at the vertices as well, for programs that read no texture there.
        overwrite: Replace files that exist.

    Returns:
        The files that were written, the mesh last. Each appears whole or not at all.

    Raises:
        FileExistsError: If one of the files exists and ``overwrite`` is not set.
        ValueError: If the ending is another, or the mesh is a batch, has no faces, vertices that are not finite, or
            both texture and vertex colors.

    Source:
        Khronos, glTF 2.0 specification, 3.4 (coordinate system) and 3.9.2 (colors of vertices are linear).

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> [file.name for file in save_mesh(template_mesh(bird()), getfixture("tmp_path") / "bird.glb")]
        ['bird.glb']
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise ValueError(
            f"save_mesh needs a file that ends in one of {', '.join(WRITERS)}; got {path.name!r}. Rename it."
        )
    contents = WRITERS[path.suffix.lower()](mesh, safe_name(path.stem))
    files = {path.with_name(name): content for name, content in contents.items() if name}
    files[path] = contents[""]
    existing = [file for file in files if file.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists. Name another file, or set overwrite.")
    for file, content in files.items():
        write_file(file, partial(Path.write_bytes, data=content))
    return list(files)


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """Convert one mesh to trimesh's, in kpose's object frame.

    Args:
        mesh: One mesh, without leading dimensions.

    Returns:
        Mesh with smooth normals and its texture or vertex colors. Vertices are repeated along the texture's seam;
        see `save_mesh` for what happens to the texture. Without a texture they keep their order.

    Raises:
        ValueError: As `save_mesh` does.

    Example:
        >>> from kpose.templates import bird, template_mesh
        >>> to_trimesh(template_mesh(bird())).is_watertight
        True
    """
    surface = _surface(mesh)
    if surface.picture is None:
        return _trimesh(surface)
    material = PBRMaterial(
        name="texture", baseColorTexture=surface.picture, metallicFactor=0.0, roughnessFactor=1.0
    )
    return _trimesh(surface, TextureVisuals(uv=surface.uv, material=material))


class _Surface(NamedTuple):
    """One mesh with as many texture coordinates as vertices."""

    vertices: Array
    faces: Array
    normals: Array
    colors: Array | None = None
    uv: Array | None = None
    """Coordinates within ``picture``, v up, as in trimesh."""
    picture: Image.Image | None = None


def _surface(mesh: Mesh) -> _Surface:
    """Return what files hold; vertices are repeated where the texture's seam parts them."""
    _check(mesh)
    vertices, normals = mesh.vertices, vertex_normals(mesh.vertices, mesh.faces)
    # Readers ask for unit normals; a vertex of no face has none.
    normals = torch.where(normals.norm(dim=-1, keepdim=True) > 0, normals, normals.new_tensor([0.0, 0.0, 1.0]))
    if mesh.texture is None or mesh.uv is None or mesh.uv_faces is None:
        colors = None if mesh.vertex_colors is None else _array(_to_bytes(mesh.vertex_colors))
        return _Surface(_array(vertices), _array(mesh.faces), _array(normals), colors)
    corners = torch.stack((mesh.faces, mesh.uv_faces), -1).reshape(-1, 2)
    rows: Tensor
    rows, faces = torch.unique(corners, dim=0, return_inverse=True)
    uv, texture = _framed(mesh.uv[rows[:, 1]], mesh.texture)
    vertices, faces, normals = vertices[rows[:, 0]], faces.view(-1, 3), normals[rows[:, 0]]
    uv_up = _array(uv) * [1.0, -1.0] + [0.0, 1.0]
    return _Surface(_array(vertices), _array(faces), _array(normals), uv=uv_up, picture=to_pillow(texture))


def _check(mesh: Mesh) -> None:
    if mesh.vertices.dim() != 2:
        raise ValueError(f"A mesh file takes one mesh; got a batch {tuple(mesh.vertices.shape)}. Choose one.")
    if not len(mesh.faces):
        raise ValueError("A mesh file needs a mesh with faces; got none.")
    if not mesh.vertices.isfinite().all():
        raise ValueError("A mesh file needs finite vertices; got NaN or infinity. Look for its origin.")
    if mesh.texture is not None and mesh.vertex_colors is not None:
        raise ValueError("A mesh file needs texture or vertex colors; got both. Leave one out of the mesh.")
    if mesh.texture is not None and (mesh.uv is None or mesh.uv_faces is None):
        raise ValueError("A texture needs the mesh's uv and uv_faces; got None. Add them to the mesh.")


def _framed(uv: Float[Tensor, "T 2"], texture: Float[Tensor, "3 h w"]) -> tuple[Tensor, Tensor]:
    """Put one more texel around a texture, and take texture coordinates to where their texels now are."""
    height, width = texture.shape[-2:]
    wide = pad(texture[None], (1, 1, 0, 0), mode="circular")
    size = uv.new_tensor([width, height])
    return (uv * size + 1) / (size + 2), pad(wide, (0, 0, 1, 1), mode="replicate")[0]


def _trimesh(surface: _Surface, visual: TextureVisuals | None = None) -> trimesh.Trimesh:
    return trimesh.Trimesh(
        vertices=surface.vertices,
        faces=surface.faces,
        vertex_normals=surface.normals,
        vertex_colors=surface.colors,
        visual=visual,
        process=False,
    )


def _array(tensor: Tensor) -> Array:
    # NumPy has no bfloat16.
    array: Array = (widened(tensor) if tensor.is_floating_point() else tensor).detach().cpu().numpy()
    return array


def _to_bytes(colors: Tensor) -> Tensor:
    return (255 * colors.float().nan_to_num(0).clamp(0, 1)).round().to(torch.uint8)


def _y_up(mesh: Mesh) -> Mesh:
    return mesh._replace(vertices=mesh.vertices @ mesh.vertices.new_tensor(Y_UP).mT)


def _glb(mesh: Mesh, name: str) -> dict[str, bytes]:
    if mesh.vertex_colors is not None:
        linear = rgb_to_linear_rgb(mesh.vertex_colors.clamp(0, 1).mT[..., None])[..., 0].mT
        mesh = mesh._replace(vertex_colors=linear)
    scene = trimesh.Scene()
    scene.add_geometry(to_trimesh(_y_up(mesh)), node_name=name, geom_name=name)

    def sign(tree: dict[str, Any]) -> None:
        tree["asset"]["generator"] = "kpose"
        # glTF's own material is bare metal, which viewers draw dark and flat. With colors of vertices it stays, as
        # trimesh reads none of a mesh that has a material.
        if mesh.texture is None and mesh.vertex_colors is None:
            clay = {"baseColorFactor": [*CLAY, 1.0], "metallicFactor": 0.0, "roughnessFactor": 1.0}
            tree["materials"] = [{"name": "clay", "pbrMetallicRoughness": clay}]
            tree["meshes"][0]["primitives"][0]["material"] = 0

    return {"": scene.export(file_type="glb", include_normals=True, tree_postprocessor=sign)}


def _obj(mesh: Mesh, name: str) -> dict[str, bytes]:
    surface = _surface(_y_up(mesh))
    if surface.picture is None:
        return {"": export_obj(_trimesh(surface), include_normals=True).encode()}
    white, black = [255] * 3, [0] * 3
    material = SimpleMaterial(
        image=surface.picture, diffuse=white, ambient=white, specular=black, name=f"{name}_texture"
    )
    solid = _trimesh(surface, TextureVisuals(uv=surface.uv, material=material))
    text, files = export_obj(solid, include_normals=True, return_texture=True, mtl_name=f"{name}.mtl")
    return {**files, "": text.encode()}


def _ply(mesh: Mesh, name: str) -> dict[str, bytes]:
    surface = _surface(mesh)
    if surface.picture is None or surface.uv is None:
        return {"": export_ply(_trimesh(surface), vertex_normal=True)}
    solid = _trimesh(surface._replace(colors=_colors_at(surface.picture, surface.uv)))
    picture = BytesIO()
    surface.picture.save(picture, "PNG")
    u, v = surface.uv.astype(np.float32).T
    solid.vertex_attributes.update(s=u, t=v)
    header, body = export_ply(solid, vertex_normal=True).split(b"element vertex", 1)
    comment = f"comment TextureFile {name}.ply.png\n".encode()
    return {f"{name}.ply.png": picture.getvalue(), "": header + comment + b"element vertex" + body}


def _colors_at(picture: Image.Image, uv: Array) -> Array:
    """Read colors off a texture, as eight bits."""
    grid = torch.from_numpy(uv * [2.0, -2.0] + [-1.0, 1.0]).float()
    texture = from_pillow(picture)[None]
    colors = grid_sample(texture, grid[None, None], padding_mode="border", align_corners=False)
    return _array(_to_bytes(colors[0, :, 0].mT))


# A writer gives the bytes of each file by name; the empty name is the mesh file itself.
WRITERS: dict[str, Callable[[Mesh, str], dict[str, bytes]]] = {".glb": _glb, ".obj": _obj, ".ply": _ply}
