"""Mesh files are opened again by trimesh, and show what kpose shows."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy.ndimage import map_coordinates
from trimesh.exchange.gltf import load_glb
from trimesh.exchange.obj import load_obj
from trimesh.exchange.ply import load_ply
from trimesh.resolvers import FilePathResolver

from kpose.geometry import vertex_normals
from kpose.inference.export import save_mesh, to_trimesh
from kpose.rendering.paint import paint_of
from kpose.structures import Mesh
from kpose.templates import bird
from kpose.templates.uv import spherical_uv

FORMATS = [".glb", ".obj", ".ply"]


def birds_mesh() -> Mesh:
    shape = bird()
    return Mesh(shape.vertices, shape.faces, shape.uv, shape.uv_faces)


def ball() -> Mesh:
    """Make a mesh whose texture has margins."""
    solid = trimesh.creation.icosphere(2)
    vertices, faces = torch.tensor(solid.vertices).float(), torch.tensor(solid.faces)
    return Mesh(vertices, faces, *spherical_uv(vertices, faces))


def textured(mesh: Mesh) -> Mesh:
    return mesh._replace(texture=torch.rand(3, 12, 20, generator=torch.Generator().manual_seed(0)))


def to_kpose(points: np.ndarray, suffix: str) -> np.ndarray:
    """Turn a file's axes into kpose's: x, then (for y up) minus z, then y."""
    if suffix == ".ply":
        return points
    return np.stack((points[:, 0], -points[:, 2], points[:, 1]), -1)


def reopen(path: Path) -> trimesh.Trimesh:
    return trimesh.load_mesh(path, process=False)


def normals_of(path: Path) -> np.ndarray:
    """Read the normals as they are in the file; trimesh computes its own when it builds a mesh of them."""
    read = {".glb": load_glb, ".obj": load_obj, ".ply": partial(load_ply, resolver=FilePathResolver(path.parent))}
    with path.open("rb") as file:
        content = read[path.suffix](file)
    [geometry] = content.get("geometry", {"": content}).values()
    return geometry["vertex_normals"]


def picture_of(mesh: trimesh.Trimesh) -> np.ndarray:
    material = mesh.visual.material
    image = getattr(material, "baseColorTexture", None) or material.image
    return np.asarray(image.convert("RGB")).astype(float) / 255


def look_up(mesh: trimesh.Trimesh, faces: np.ndarray, weights: np.ndarray, mode: str) -> np.ndarray:
    """Interpolate the texture linearly, as graphics hardware does; trimesh's v points up."""
    picture = picture_of(mesh)
    u, v = np.einsum("nk,nkc->cn", weights, mesh.visual.uv[mesh.faces[faces]])
    place = [(1 - v) * picture.shape[0] - 0.5, u * picture.shape[1] - 0.5]
    return np.stack([map_coordinates(picture[..., c], place, order=1, mode=mode) for c in range(3)], -1)


def points_on(mesh: Mesh, count: int = 4000) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    weights = -torch.rand(count, 3, generator=generator).log()
    weights[: count // 4, 0] = 0  # on edges too
    return torch.randint(len(mesh.faces), (count,), generator=generator), weights / weights.sum(-1, keepdim=True)


@pytest.mark.parametrize("make", [birds_mesh, ball])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_textured_mesh_comes_back(suffix, make, tmp_path):
    mesh = textured(make())
    files = save_mesh(mesh, tmp_path / f"bird{suffix}")
    assert sorted(files) == sorted(tmp_path.iterdir())
    assert files[-1].name == f"bird{suffix}"
    found = reopen(files[-1])
    positions = to_kpose(found.vertices, suffix)[found.faces]
    np.testing.assert_allclose(positions, mesh.vertices[mesh.faces].numpy(), atol=1e-6)
    normals = to_kpose(normals_of(files[-1]), suffix)[found.faces]
    np.testing.assert_allclose(normals, vertex_normals(mesh.vertices, mesh.faces)[mesh.faces].numpy(), atol=1e-5)
    faces, weights = points_on(mesh)
    paint = paint_of(mesh, (1,), mesh.vertices)
    expected = paint.at(torch.zeros_like(faces), faces, weights.mT).mT.numpy()
    for mode in ("grid-wrap", "nearest"):  # whether the program repeats textures or stops at their edges
        difference = np.abs(look_up(found, faces.numpy(), weights.double().numpy(), mode) - expected)
        assert difference.max() < 0.5 / 255 + 1e-4


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_seam_shows(suffix, tmp_path):
    """Along the edge that two faces share, both have the same color, although u jumps there."""
    mesh = textured(birds_mesh())
    found = reopen(save_mesh(mesh, tmp_path / f"bird{suffix}")[-1])
    owners: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for face, corners in enumerate(mesh.faces.tolist()):
        for k in range(3):
            a, b = corners[k], corners[(k + 1) % 3]
            owners.setdefault((min(a, b), max(a, b)), []).append(
                (face, corners.index(min(a, b)), corners.index(max(a, b)))
            )
    v = mesh.uv[mesh.uv_faces][..., 1]
    pairs = [pair for pair in owners.values() if all(0 < v[f, k] < 1 for f, *ends in pair for k in ends)]
    colors, jumps = [], 0
    for share in (0.0, 0.3, 0.5):
        for side in (0, 1):
            weights = np.zeros((len(pairs), 3))
            for n, pair in enumerate(pairs):
                weights[n, pair[side][1]], weights[n, pair[side][2]] = 1 - share, share
            colors.append(look_up(found, np.array([pair[side][0] for pair in pairs]), weights, "grid-wrap"))
        assert np.abs(colors[-1] - colors[-2]).max() < 2.5 / 255
    for pair in pairs:
        first, second = (mesh.uv[mesh.uv_faces[f]][k, 0] for f, k, _ in pair)
        jumps += bool((first - second).abs() > 0.5)
    assert jumps > 10


@pytest.mark.parametrize("suffix", FORMATS)
def test_up_and_front(suffix, tmp_path):
    """In GLB and OBJ +y is up and +z the front, as glTF says and Blender takes it; in PLY as in kpose."""
    shape = bird()
    found = reopen(save_mesh(birds_mesh(), tmp_path / f"bird{suffix}")[-1])
    part = {name: found.vertices[v] for name, v in zip(shape.part_names, shape.part_vertices.tolist(), strict=True)}
    front, up = ((0, 0, 1), (0, 1, 0)) if suffix != ".ply" else ((0, -1, 0), (0, 0, 1))
    assert (part["beak"] - part["tail"]) @ front > 0.5
    assert (part["back"] - part["belly"]) @ up > 0.2
    assert (part["left eye"] - part["right eye"]) @ np.cross(up, front) > 0.01
    assert found.volume > 0.05  # not turned inside out


@pytest.mark.parametrize("suffix", FORMATS)
def test_without_texture(suffix, tmp_path):
    mesh = birds_mesh()
    [plain] = save_mesh(mesh, tmp_path / f"plain{suffix}")
    assert reopen(plain).vertices.shape == mesh.vertices.shape
    colors = torch.linspace(0, 1, len(mesh.vertices))[:, None].expand(-1, 3)
    [colored] = save_mesh(mesh._replace(vertex_colors=colors), tmp_path / f"colored{suffix}")
    found = torch.from_numpy(np.asarray(reopen(colored).visual.vertex_colors)[:, :3] / 255.0).float()
    if suffix == ".glb":  # colors of vertices are linear there, those of textures are not
        found = torch.where(found <= 0.0031308, 12.92 * found, 1.055 * found ** (1 / 2.4) - 0.055)
    bright = colors > 0.2
    torch.testing.assert_close(found[bright], colors[bright], atol=0.01, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", FORMATS)
def test_any_precision(suffix, dtype, tmp_path):
    mesh = textured(birds_mesh()).to(dtype)
    found = reopen(save_mesh(mesh, tmp_path / f"bird{suffix}")[-1])
    positions = to_kpose(found.vertices, suffix)[found.faces]
    np.testing.assert_allclose(positions, mesh.vertices[mesh.faces].double().numpy(), atol=1e-6)


def test_obj_and_ply_of_one_name_share_no_file(tmp_path):
    first, second = textured(birds_mesh()), textured(ball())
    files = save_mesh(first, tmp_path / "bird.obj")
    before = [file.read_bytes() for file in files]
    files += save_mesh(second, tmp_path / "bird.ply")
    assert len(set(files)) == 5
    assert [file.read_bytes() for file in files[:3]] == before


def test_ply_has_the_texture_at_its_vertices_as_well(tmp_path):
    mesh = textured(birds_mesh())
    with save_mesh(mesh, tmp_path / "bird.ply")[-1].open("rb") as file:
        content = load_ply(file, resolver=FilePathResolver(tmp_path))
    colors = content["vertex_colors"][content["faces"]][..., :3] / 255
    faces = torch.arange(len(mesh.faces)).repeat_interleave(3)
    paint = paint_of(mesh, (1,), mesh.vertices)
    expected = paint.at(torch.zeros_like(faces), faces, torch.eye(3).repeat(len(mesh.faces), 1).mT)
    np.testing.assert_allclose(colors.reshape(-1, 3), expected.mT.numpy(), atol=0.01)


def test_obj_names_its_files(tmp_path):
    files = save_mesh(textured(birds_mesh()), tmp_path / "new" / "my bird?.OBJ")
    assert {file.name for file in files} == {"my_bird__texture.png", "my_bird_.mtl", "my bird?.OBJ"}
    assert "mtllib my_bird_.mtl\n" in files[-1].read_text()
    assert "map_Kd my_bird__texture.png" in files[1].read_text()
    assert "Kd 1.0" in files[1].read_text()  # the texture is not darkened


@pytest.mark.parametrize("suffix", FORMATS)
def test_nothing_is_replaced_unless_asked(suffix, tmp_path):
    mesh = textured(birds_mesh())
    files = save_mesh(mesh, tmp_path / f"bird{suffix}")
    before = {file: file.read_bytes() for file in files}
    for file in files[1:]:
        file.unlink()
    with pytest.raises(FileExistsError, match="set overwrite"):
        save_mesh(mesh._replace(texture=1 - mesh.texture), files[-1])
    assert [file for file in files if file.exists()] == files[:1]
    assert files[0].read_bytes() == before[files[0]]
    assert save_mesh(mesh, files[-1], overwrite=True) == files
    assert {file: file.read_bytes() for file in files} == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": torch.zeros(2, 642, 3)}, "batch"),
        ({"vertices": torch.full((642, 3), torch.nan)}, "finite"),
        ({"faces": torch.zeros(0, 3, dtype=torch.long)}, "faces"),
        ({"texture": torch.zeros(3, 4, 4), "uv": None}, "uv_faces"),
        ({"texture": torch.zeros(3, 4, 4), "vertex_colors": torch.zeros(642, 3)}, "both"),
    ],
)
def test_what_cannot_be_written(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save_mesh(birds_mesh()._replace(**change), tmp_path / "bird.glb")
    assert not list(tmp_path.iterdir())


def test_another_ending(tmp_path):
    with pytest.raises(ValueError, match=r"\.glb, \.obj, \.ply"):
        save_mesh(birds_mesh(), tmp_path / "bird.fbx")


def test_to_trimesh_keeps_the_frame():
    mesh = birds_mesh()
    np.testing.assert_array_equal(to_trimesh(mesh).vertices, mesh.vertices.numpy())
    assert to_trimesh(textured(mesh)).visual.kind == "texture"


def test_a_mesh_without_colours_is_no_metal(tmp_path):
    save_mesh(birds_mesh()._replace(uv=None, uv_faces=None, texture=None), tmp_path / "bird.glb")
    content = (tmp_path / "bird.glb").read_bytes()
    tree = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    [primitive] = tree["meshes"][0]["primitives"]
    look = tree["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert look["metallicFactor"] == 0
    assert min(look["baseColorFactor"]) > 0.3
