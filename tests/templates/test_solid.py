import logging

import numpy as np
import pytest
import torch
import trimesh
from templates.checks import check_template_contract, edge_crossings

from kpose.geometry import edges, volume
from kpose.templates import Limb, Solid, bird, body_solid, mesh_solid, wrap_solid
from kpose.templates.solid import _euler, _squared_distance

WHEELS = [Limb(0.3, y, -0.18, 0.1, 0.17, (1.0, 0.0, 0.0)) for y in (-0.6, 0.6)]
CAR = [*WHEELS, Limb(0.17, -0.1, 0.2, 0.55, 0.2, (0.0, 1.0, 0.0))]


def moved(mesh, *offset):
    return mesh.copy().apply_translation(offset)


def write(path, *meshes):
    trimesh.util.concatenate(meshes).export(path)
    return path


def inside_volume(solid):
    return int((solid.distance < 0).sum()) * solid.cell**3


def test_car_of_measures_is_a_template():
    template = wrap_solid(body_solid(2.0, 0.8, 0.42, CAR, exponent=4.0, cells=64))
    check_template_contract(template)
    assert 641 <= len(template.vertices) <= 642
    assert template.vertices.dtype == torch.float32
    width, length, height = (template.vertices.amax(0) - template.vertices.amin(0)).tolist()
    assert length == pytest.approx(2.0, abs=1e-4)
    assert width == pytest.approx(2 * (0.3 + 0.1 + 0.17), rel=0.05)
    assert height == pytest.approx(0.35 + 0.4, rel=0.05)
    assert edge_crossings(template.vertices.double(), template.faces, edges(template.faces)) == 0
    # The wheels are there: below the body's floor there is surface near all four, and none between.
    low = template.vertices[template.vertices[:, 2] < template.vertices[:, 2].min() + 0.1]
    assert {(bool(x > 0), bool(y > 0)) for x, y, _ in low.tolist()} == {(a, b) for a in (0, 1) for b in (0, 1)}
    assert (low[:, 1].abs() > 0.35).all()


def test_template_is_the_same_each_time():
    solid = body_solid(1.0, 0.5, 0.5, [Limb(0.1, 0.0, 0.0, 0.5, 0.1)], cells=32)
    first, second = (wrap_solid(solid, num_vertices=162) for _ in range(2))
    assert torch.equal(first.vertices, second.vertices)
    assert torch.equal(first.faces, second.faces)


def test_thin_long_legs_get_vertices():
    legs = [Limb(0.12, y, -0.1, 0.6, 0.08) for y in (-0.4, 0.4)]
    solid = body_solid(1.2, 0.5, 0.5, legs, cells=64)
    template = wrap_solid(solid)
    check_template_contract(template)
    inside = float(volume(template.vertices, template.faces)) * (1.2 / 2) ** 3
    assert inside == pytest.approx(inside_volume(solid), rel=0.06)


def test_ellipsoid_measures():
    solid = body_solid(2.0, 1.0, 0.8, cells=64)
    assert inside_volume(solid) == pytest.approx(4 / 3 * np.pi * 1.0 * 0.5 * 0.4, rel=0.01)
    box = body_solid(2.0, 1.0, 0.8, exponent=30.0, cells=64)
    assert inside_volume(box) == pytest.approx(2.0 * 1.0 * 0.8, rel=0.06)
    points, near = solid.distance[:, 40, 20], solid.distance[:, 40, 20].flip(0)
    assert torch.equal(points, near)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 1.0), "positive measures"),
        ((1.0, 1.0, float("nan")), "positive measures"),
        ((1.0, 1.0, 1.0, [Limb(0, 0, 0, 1, 0)]), "positive measures"),
        ((1.0, 1.0, 1.0, [Limb(0, 0, 0, -1, 0.1)]), "not negative"),
        ((1.0, 1.0, 1.0, [Limb(0, 0, 0, 1, 0.1, (0, 0, 0))]), "direction"),
        ((1.0, 1.0, 1.0, [Limb(0, 0, 0, 1, 0.1), Limb(3, 0, 0, 1, 0.1)]), "limb 2 does not"),
    ],
)
def test_measures_that_make_no_body(arguments, message):
    with pytest.raises(ValueError, match=message):
        body_solid(*arguments, cells=64)


def test_bird_survives_the_detour(tmp_path):
    template = bird()
    mesh = trimesh.Trimesh(template.vertices.numpy(), template.faces.numpy(), process=False)
    solid, asymmetry = mesh_solid(write(tmp_path / "bird.ply", mesh), cells=64)
    assert asymmetry < 0.01
    assert inside_volume(solid) == pytest.approx(float(volume(template.vertices, template.faces)), rel=0.03)
    again = wrap_solid(solid, size=float((template.vertices.amax(0) - template.vertices.amin(0)).max()))
    check_template_contract(again)
    centre = (template.vertices.amax(0) + template.vertices.amin(0)) / 2
    nearest = torch.cdist(template.vertices - centre, again.vertices).min(-1).values
    assert nearest.mean() < 0.06
    assert nearest.max() < 0.16


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
    exact = 4 / 3 * np.pi
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
    path = write(tmp_path / "ring.ply", trimesh.creation.torus(1.0, 0.4))
    solid, _ = mesh_solid(path, cells=32)
    assert "handles" in caplog.text
    assert _euler(solid.distance < 0) == 1
    check_template_contract(wrap_solid(solid, num_vertices=200))


def test_meshes_that_make_no_template(tmp_path):
    ball = trimesh.creation.icosphere(3)
    half = trimesh.Trimesh(ball.vertices, ball.faces[ball.triangles_center[:, 1] > 0], process=False)
    with pytest.raises(
        ValueError, match=r"1 hole\(s\), .* edges in all. The largest is .*half\.ply|half\.ply has 1"
    ):
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


def test_solids_that_cannot_be_wrapped():
    axis = torch.linspace(-2, 2, 33, dtype=torch.float64)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    low, cell = torch.full((3,), -2.0, dtype=torch.float64), 0.125
    ring = ((torch.hypot(x, y) - 1.2).square() + z.square()).sqrt() - 0.4
    with pytest.raises(ValueError, match="cannot wrap this solid"):
        wrap_solid(Solid(ring, low, cell), num_vertices=100)
    with pytest.raises(ValueError, match="with an inside"):
        wrap_solid(Solid(ring + 5, low, cell))
    with pytest.raises(ValueError, match="at least 50"):
        wrap_solid(Solid(ring, low, cell), num_vertices=20)


def test_squared_distance_is_exact():
    goal = torch.rand(7, 9, 5, generator=torch.Generator().manual_seed(0)) < 0.03
    cells = torch.stack(torch.meshgrid(*map(torch.arange, goal.shape), indexing="ij"), -1).reshape(-1, 3).float()
    expected = torch.cdist(cells, cells[goal.flatten()]).min(-1).values.square().round().view(goal.shape)
    assert torch.equal(_squared_distance(goal), expected)


@pytest.mark.parametrize(("kind", "number"), [("ball", 1), ("ring", 0), ("shell", 2), ("pair", 2)])
def test_euler_number(kind, number):
    solid = torch.zeros(7, 7, 7, dtype=torch.bool)
    solid[1:6, 1:6, 2:5] = True
    if kind == "ring":
        solid[3, 3] = False
    if kind == "shell":
        solid[3, 3, 3] = False
    if kind == "pair":
        solid[3] = False
    assert _euler(solid) == number
