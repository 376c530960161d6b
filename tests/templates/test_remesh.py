import pytest
import torch
from templates.checks import check_template_contract

from kpose.geometry import is_closed, volume
from kpose.structures import Template
from kpose.templates.remesh import collapse_short_edges, geodesic_sphere, split_long_edges
from kpose.templates.uv import spherical_uv


def check(surface):
    """Check that both the surface and its map are closed, symmetric and face outwards."""
    assert is_closed(surface.faces)
    for points in (surface.vertices, surface.sphere):
        image = points[surface.mirror] * torch.tensor([-1.0, 1.0, 1.0])
        assert torch.equal(image, points)
    assert (torch.linalg.det(surface.sphere[surface.faces]) > 0).all()
    assert torch.equal(surface.mirror[surface.mirror], torch.arange(len(surface.mirror)))
    uv, uv_faces = spherical_uv(surface.sphere, surface.faces)
    vertices = surface.vertices.float() + 0.0
    parts = torch.zeros(0, dtype=torch.long)
    check_template_contract(Template(vertices, surface.faces, uv.float(), uv_faces, surface.mirror, (), parts))


@pytest.mark.parametrize("frequency", [1, 2, 3, 8])
def test_geodesic_sphere(frequency):
    surface = geodesic_sphere(frequency)
    assert len(surface.vertices) == 10 * frequency**2 + 2
    assert torch.allclose(surface.vertices.norm(dim=-1), torch.ones(len(surface.vertices), dtype=torch.float64))
    check(surface)


@pytest.mark.parametrize("length", [0.2, 0.45, 0.6, 3.0])
def test_long_edges_are_halved(length):
    sphere = geodesic_sphere(4)
    stretched = sphere._replace(vertices=sphere.vertices * torch.tensor([1.0, 2.0, 0.5]))
    split = split_long_edges(stretched, length)
    check(split)
    ends = split.vertices[split.faces]
    longest = (ends - ends.roll(1, 1)).norm(dim=-1).max()
    before = stretched.vertices[stretched.faces]
    assert longest <= max(length, 0.51 * (before - before.roll(1, 1)).norm(dim=-1).max()) + 1e-6 or length > 0.5
    # New vertices lie on old edges, so that the solid stays the same.
    assert torch.allclose(volume(split.vertices, split.faces), volume(stretched.vertices, stretched.faces))
    if length == 3.0:
        assert split is stretched


@pytest.mark.parametrize("count", [150, 201])
def test_short_edges_are_drawn_together(count):
    sphere = geodesic_sphere(6)
    stretched = sphere._replace(vertices=sphere.vertices * torch.tensor([1.0, 2.0, 0.5]))
    small = collapse_short_edges(stretched, count)
    assert len(small.vertices) in (count, count - 1)
    check(small)
    ends = small.vertices[small.faces]
    lengths = (ends - ends.roll(1, 1)).norm(dim=-1)
    assert lengths.min() > 0.2 * lengths.mean()
    assert volume(small.vertices, small.faces) > 0.6 * volume(stretched.vertices, stretched.faces)
