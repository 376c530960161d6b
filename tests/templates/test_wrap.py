import pytest
import torch

from kpose.templates.measures import Limb, body_solid
from kpose.templates.wrap import Solid, wrap_solid


def test_template_is_the_same_each_time():
    solid = body_solid(1.0, 0.5, 0.5, [Limb(0.1, 0.0, 0.0, 0.5, 0.1)], cells=32)
    first, second = (wrap_solid(solid, num_vertices=162) for _ in range(2))
    assert torch.equal(first.vertices, second.vertices)
    assert torch.equal(first.faces, second.faces)


def test_solids_that_cannot_be_wrapped():
    axis = torch.linspace(-2, 2, 33, dtype=torch.float64)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    low, cell = torch.full((3,), -2.0, dtype=torch.float64), 0.125
    ring = ((torch.hypot(x, y) - 1.2).square() + z.square()).sqrt() - 0.4
    with pytest.raises(ValueError, match="cannot be wrapped around this solid"):
        wrap_solid(Solid(ring, low, cell), num_vertices=100)
    with pytest.raises(ValueError, match="with an inside"):
        wrap_solid(Solid(ring + 5, low, cell))
    with pytest.raises(ValueError, match="at least 50"):
        wrap_solid(Solid(ring, low, cell), num_vertices=20)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"num_vertices": 49}, "at least 50 vertices; got 49"),
        ({"num_vertices": 20_001}, "at most 20000 vertices; got 20001"),
        ({"num_vertices": 100, "size": 0.0}, "a positive size; got 0.0"),
    ],
)
def test_sizes_out_of_range_are_refused(settings, line):
    with pytest.raises(ValueError, match=line):
        wrap_solid(Solid(torch.ones(2, 2, 2), torch.zeros(3), 1.0), **settings)
