import numpy as np
import pytest
import torch
import trimesh
from safetensors.torch import save_file
from templates.checks import check_template_contract

from kpose.templates import bird, load_template, save_template


def write(path, vertices, faces, uv=None):
    visual = None if uv is None else trimesh.visual.TextureVisuals(uv=uv)
    trimesh.Trimesh(vertices, faces, visual=visual, process=False).export(path)
    return path


def sphere():
    mesh = trimesh.creation.icosphere(subdivisions=2)
    return mesh.vertices, mesh.faces


def test_round_trip_is_exact_and_leaves_no_other_file(tmp_path):
    template = bird()
    path = tmp_path / "new" / "bird.safetensors"
    save_template(template, path)
    save_template(template, path)
    loaded = load_template(path)
    assert [p.name for p in path.parent.iterdir()] == ["bird.safetensors"]
    assert loaded.part_names == template.part_names
    for ours, theirs in zip(template, loaded, strict=True):
        assert not isinstance(ours, torch.Tensor) or (torch.equal(ours, theirs) and ours.dtype == theirs.dtype)
    check_template_contract(loaded)


@pytest.mark.parametrize("suffix", ["glb", "obj", "off", "ply", "stl"])
@pytest.mark.parametrize("shape", ["sphere", "bird"])
def test_mesh_files(tmp_path, suffix, shape):
    template = bird()
    vertices, faces = sphere() if shape == "sphere" else (template.vertices.numpy(), template.faces.numpy())
    path = write(tmp_path / f"mesh.{suffix}", vertices, faces)
    parts = {"front": (0.0, -1.0, 0.0), "left side": (1.0, 0.0, 0.0), "right side": (-1.0, 0.0, 0.0)}
    loaded = load_template(path, parts)
    check_template_contract(loaded)
    assert loaded.part_names == tuple(parts)
    assert len(loaded.vertices) == len(vertices)
    if suffix != "stl":
        assert torch.allclose(loaded.vertices, torch.tensor(vertices).float(), atol=1e-5)


@pytest.mark.parametrize("suffix", ["glb", "obj"])
def test_texture_coordinates_of_the_file_are_kept(tmp_path, suffix):
    template = bird()
    # A file has one texture coordinate for each vertex, so that vertices repeat along the seam.
    vertex = torch.zeros(len(template.uv), dtype=torch.long)
    vertex[template.uv_faces.flatten()] = template.faces.flatten()
    up = template.uv.numpy() * [1, -1] + [0, 1]
    path = write(tmp_path / f"mesh.{suffix}", template.vertices[vertex].numpy(), template.uv_faces.numpy(), up)
    loaded = load_template(path)
    check_template_contract(loaded)
    assert len(loaded.vertices) == len(template.vertices)
    assert torch.allclose(
        loaded.uv[loaded.uv_faces].flatten(0, 1).sum(0),
        template.uv[template.uv_faces].flatten(0, 1).sum(0),
        atol=0.1,
    )
    assert torch.allclose(loaded.uv[loaded.uv_faces], template.uv[template.uv_faces], atol=1e-5)


def test_inward_faces_are_turned_and_slight_asymmetry_is_removed(tmp_path):
    vertices, faces = sphere()
    vertices = vertices + 1e-4 * torch.randn(vertices.shape, generator=torch.Generator().manual_seed(0)).numpy()
    check_template_contract(load_template(write(tmp_path / "mesh.ply", vertices, faces[:, ::-1])))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, f: (v, f[1:]), "closed"),
        (lambda v, f: (v + 0.1, f), "symmetric about x = 0"),
        (lambda v, f: (v[:0], f[:0]), "cannot be read|faces of"),
    ],
)
def test_meshes_that_make_no_template(tmp_path, change, message):
    path = tmp_path / "mesh.obj"
    write(path, *change(*sphere()))
    with pytest.raises(ValueError, match=message):
        load_template(path)


def test_torus_and_pair_of_spheres_are_refused(tmp_path):
    torus = trimesh.creation.torus(1.0, 0.3)
    with pytest.raises(ValueError, match="genus 1"):
        load_template(write(tmp_path / "torus.ply", torus.vertices, torus.faces))
    vertices, faces = sphere()
    both = trimesh.util.concatenate([trimesh.Trimesh(vertices + np.array([s, 0, 0]), faces) for s in (-2, 2)])
    with pytest.raises(ValueError, match="2 pieces"):
        load_template(write(tmp_path / "pair.ply", both.vertices, both.faces))


def test_files_of_another_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_template(tmp_path / "none.safetensors")
    text = tmp_path / "a.txt"
    text.write_text("bird")
    with pytest.raises(ValueError, match="ends in one of"):
        load_template(text)
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        save_template(bird(), tmp_path / "bird.npz")
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"bird")
    with pytest.raises(ValueError, match="cannot read"):
        load_template(damaged)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, other)
    with pytest.raises(ValueError, match="file of save_template"):
        load_template(other)
    for suffix in ("ply", "glb"):
        rubbish = tmp_path / f"rubbish.{suffix}"
        rubbish.write_bytes(b"bird")
        with pytest.raises(ValueError, match="cannot be read"):
            load_template(rubbish)


def test_parts_are_for_mesh_files(tmp_path):
    path = tmp_path / "bird.safetensors"
    save_template(bird(), path)
    with pytest.raises(ValueError, match="holds its own"):
        load_template(path, {"beak": (0.0, -1.0, 0.0)})
