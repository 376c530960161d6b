import logging
import math

import pytest
import torch
import trimesh

from kpose.geometry._mesh import volume
from kpose.templates import bird

pytest.importorskip("skimage")

from skimage.measure import euler_number

from kpose.templates.voxels import mesh_solid


def moved(mesh, *offset):
    return mesh.copy().apply_translation(offset)


def write(path, *meshes):
    trimesh.util.concatenate(meshes).export(path)
    return path


def inside_volume(solid):
    return int((solid.distance < 0).sum()) * solid.cell**3


def test_volume_and_symmetry_of_the_bird(tmp_path):
    template = bird()
    mesh = trimesh.Trimesh(template.vertices.numpy(), template.faces.numpy(), process=False)
    solid, asymmetry = mesh_solid(write(tmp_path / "bird.ply", mesh), cells=64)
    assert asymmetry < 0.01
    assert inside_volume(solid) == pytest.approx(float(volume(template.vertices, template.faces)), rel=0.03)
    assert torch.equal(solid.distance, solid.distance.flip(0))
    assert float(solid.low[0]) == pytest.approx(-solid.cell * (len(solid.distance) - 1) / 2)


def test_axes_of_the_file(tmp_path):
    # A wedge: long along the file's z, its thick end at +z, tall along the file's y.
    meshes = (trimesh.creation.box((0.6, 0.5, 2.0)), moved(trimesh.creation.box((0.6, 0.5, 0.5)), 0, 0.4, 0.7))
    solid, _ = mesh_solid(write(tmp_path / "wedge.obj", *meshes), front="+z", up="y", cells=40)
    inside = (solid.distance < 0).nonzero()
    extents = (inside.amax(0) - inside.amin(0)).double() * solid.cell
    assert torch.allclose(extents, torch.tensor([0.6, 2.0, 0.9], dtype=torch.float64), atol=0.12)
    top = inside[inside[:, 2] > inside[:, 2].max() - 3]
    assert top[:, 1].float().mean() < inside[:, 1].float().mean()  # the thick end is in front, at -y
    with pytest.raises(ValueError, match="two different axes"):
        mesh_solid(tmp_path / "wedge.obj", front="+z", up="-z")


def test_messy_meshes_are_repaired(tmp_path, caplog):
    ball = trimesh.creation.icosphere(3)
    inward = trimesh.Trimesh(ball.vertices, ball.faces[:, ::-1], process=False)
    open_ball = trimesh.Trimesh(ball.vertices, ball.faces[6:], process=False)
    crumb = moved(trimesh.creation.box((0.3, 0.3, 0.3)), 0.0, 0.0, 1.8)
    exact = 4 / 3 * math.pi
    for meshes, message in (((inward,), ""), ((open_ball,), "hole"), ((ball, crumb), "largest piece")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            solid, asymmetry = mesh_solid(write(tmp_path / "ball.stl", *meshes), max_hole=0.5, cells=40)
        assert inside_volume(solid) == pytest.approx(exact, rel=0.06)
        assert asymmetry < 0.02
        assert message in caplog.text
    # Overlapping shells count once, as do those with a face for each side; one inside another fills nothing more.
    inner = trimesh.creation.icosphere(2, radius=0.5)
    solid, _ = mesh_solid(write(tmp_path / "two.ply", ball, moved(ball, 0, 1, 0), inward, inner), cells=40)
    assert inside_volume(solid) == pytest.approx(exact * (1 + 11 / 16), rel=0.06)


def test_mirror_plane_is_found(tmp_path):
    meshes = (moved(trimesh.creation.icosphere(3), 5.1, 0, 0), moved(trimesh.creation.icosphere(2), 5.1, 0.0, 1.0))
    knob = moved(trimesh.creation.box((0.6, 0.2, 0.2)), 6.2, 0, 0)
    solid, asymmetry = mesh_solid(write(tmp_path / "knob.ply", *meshes, knob), cells=40)
    assert 0.0 < asymmetry < 0.1
    low, high = solid.box()
    assert float((low + high)[0].abs()) < solid.cell


def test_handles_are_closed(tmp_path, caplog):
    solid, _ = mesh_solid(write(tmp_path / "ring.ply", trimesh.creation.torus(1.0, 0.4)), cells=32)
    assert "handles" in caplog.text
    assert euler_number((solid.distance < 0).numpy(), connectivity=3) == 1


def test_cavities_are_filled(tmp_path):
    inner = trimesh.creation.icosphere(2, radius=0.5)
    shell = trimesh.util.concatenate(
        [trimesh.creation.icosphere(3), trimesh.Trimesh(inner.vertices, inner.faces[:, ::-1])]
    )
    solid, _ = mesh_solid(write(tmp_path / "shell.ply", shell), cells=40)
    assert inside_volume(solid) == pytest.approx(4 / 3 * math.pi, rel=0.06)


def test_meshes_that_make_no_template(tmp_path):
    ball = trimesh.creation.icosphere(3)
    half = trimesh.Trimesh(ball.vertices, ball.faces[ball.triangles_center[:, 1] > 0], process=False)
    with pytest.raises(ValueError, match=r"half\.ply has 1 hole\(s\), .* edges in all. The largest is"):
        mesh_solid(write(tmp_path / "half.ply", half))
    lopsided = write(tmp_path / "lopsided.ply", ball, moved(trimesh.creation.box((2.0, 0.8, 0.8)), 1.5, 0, 0))
    with pytest.raises(ValueError, match=r"lopsided\.ply and its mirror image, \d+% of the volume"):
        mesh_solid(lopsided, tolerance=0.1, cells=40)
    assert mesh_solid(lopsided, tolerance=1.0, cells=40)[1] > 0.1
    flat = trimesh.Trimesh(ball.vertices * [1, 1, 0], ball.faces, process=False)
    with pytest.raises(ValueError, match=r"inside|hole"):
        mesh_solid(write(tmp_path / "flat.ply", flat), cells=32)
    with pytest.raises(FileNotFoundError, match="no such file"):
        mesh_solid(tmp_path / "none.ply")
