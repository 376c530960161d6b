import pytest
import torch
from templates.checks import check_template_contract

from kpose.geometry._mesh import is_closed, volume
from kpose.structures import Template
from kpose.templates.remesh import collapse_short_edges, half_sphere, split_long_edges
from kpose.templates.uv import spherical_uv


def check(surface):
    """Check that both the surface and its map are closed, symmetric and face outwards; return the whole surface."""
    whole, mirror = surface.whole()
    assert is_closed(whole.faces)
    for points in (whole.vertices, whole.sphere):
        assert torch.equal(points[mirror] * torch.tensor([-1.0, 1.0, 1.0]), points)
    assert (torch.linalg.det(whole.sphere[whole.faces]) > 0).all()
    assert torch.equal(mirror[mirror], torch.arange(len(mirror)))
    uv, uv_faces = spherical_uv(whole.sphere, whole.faces)
    parts = torch.zeros(0, dtype=torch.long)
    vertices = whole.vertices.float() + 0.0
    check_template_contract(Template(vertices, whole.faces, uv.float(), uv_faces, mirror, (), parts))
    return whole


def stretched(divisions):
    sphere = half_sphere(divisions)
    return sphere._replace(vertices=sphere.vertices * torch.tensor([1.0, 2.0, 0.5]))


def edge_lengths(surface):
    ends = surface.vertices[surface.faces]
    return (ends - ends.roll(1, 1)).norm(dim=-1)


@pytest.mark.parametrize("divisions", [1, 2, 3])
def test_half_sphere(divisions):
    whole = check(half_sphere(divisions))
    assert len(whole.vertices) == 4 * 4**divisions + 2
    assert torch.allclose(whole.vertices.norm(dim=-1), torch.ones(len(whole.vertices), dtype=torch.float64))


@pytest.mark.parametrize("length", [0.2, 0.45, 0.6, 3.0])
def test_long_edges_are_halved(length):
    before = stretched(2)
    after = split_long_edges(before, length)
    whole = check(after)
    longest = edge_lengths(before).max()
    assert edge_lengths(after).max() <= max(length, 0.51 * longest) + 1e-6 or length > 0.5
    # New vertices lie on old edges, so that the solid stays the same.
    expected, _ = before.whole()
    assert torch.allclose(volume(whole.vertices, whole.faces), volume(expected.vertices, expected.faces))
    if length == 3.0:
        assert after is before


@pytest.mark.parametrize("count", [120, 201])
def test_short_edges_are_drawn_together(count):
    before = stretched(3)
    after = collapse_short_edges(before, count)
    whole = check(after)
    assert len(whole.vertices) in (count, count - 1)
    lengths = edge_lengths(after)
    assert lengths.min() > 0.2 * lengths.mean()
    expected, _ = before.whole()
    assert volume(whole.vertices, whole.faces) > 0.6 * volume(expected.vertices, expected.faces)
