import math

import pytest
import torch
from templates.checks import check_template_contract, edge_crossings

from kpose.geometry._mesh import edges, volume
from kpose.templates import Limb, build_template
from kpose.templates.measures import body_solid

WHEELS = [Limb(0.3, y, -0.18, 0.1, 0.17, (1.0, 0.0, 0.0)) for y in (-0.6, 0.6)]
CAR = [*WHEELS, Limb(0.17, -0.1, 0.2, 0.55, 0.2, (0.0, 1.0, 0.0))]


def inside_volume(solid):
    return int((solid.distance < 0).sum()) * solid.cell**3


def test_car_of_measures_is_a_template():
    template = build_template(2.0, 0.8, 0.42, CAR, exponent=4.0, cells=64)
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


def test_thin_long_legs_get_vertices():
    legs = [Limb(0.12, y, -0.1, 0.6, 0.08) for y in (-0.4, 0.4)]
    template = build_template(1.2, 0.5, 0.5, legs, cells=64)
    check_template_contract(template)
    inside = float(volume(template.vertices, template.faces)) * (1.2 / 2) ** 3
    assert inside == pytest.approx(inside_volume(body_solid(1.2, 0.5, 0.5, legs, cells=64)), rel=0.06)


def test_ellipsoid_measures():
    solid = body_solid(2.0, 1.0, 0.8, cells=64)
    assert inside_volume(solid) == pytest.approx(4 / 3 * math.pi * 1.0 * 0.5 * 0.4, rel=0.01)
    box = body_solid(2.0, 1.0, 0.8, exponent=30.0, cells=64)
    assert inside_volume(box) == pytest.approx(2.0 * 1.0 * 0.8, rel=0.06)
    assert torch.equal(solid.distance, solid.distance.flip(0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 1.0, 1.0), "positive measures"),
        ((1.0, 1.0, float("nan")), "positive measures"),
        ((1.0, 1.0, 1.0, [Limb(0, 0, 0, 1, 0)]), "positive measures"),
        ((1.0, 1.0, 1.0, [Limb(0, 0, 0, -1, 0.1)]), "at least 0"),
        ((1.0, 1.0, 1.0, [Limb(0, 0, 0, 1, 0.1, (0, 0, 0))]), "direction"),
        ((1.0, 1.0, 1.0, [Limb(0, 0, 0, 1, 0.1), Limb(3, 0, 0, 1, 0.1)]), "limb 2 does not"),
    ],
)
def test_measures_that_make_no_body(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_template(*arguments, cells=64)
