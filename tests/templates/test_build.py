import pytest
import torch
from templates.checks import check_template_contract

from kpose.geometry import volume
from kpose.templates import Body, Relief, Section, build_template
from kpose.templates.bird import BIRD
from kpose.templates.build import lattice, lattice_points


def cigar(radius=0.5, **changes):
    rows = [Section(-1.0, 0.0, 0.0, 0.0), *(Section(-1.0 + 0.4 * k, 0.0, radius, radius) for k in range(6))]
    return Body((*rows, Section(1.0, 0.0, 0.0, 0.0)), **changes)


@pytest.mark.parametrize("num_vertices", [50, 200, 642, 1000])
@pytest.mark.parametrize("body", [cigar(), cigar(0.02), cigar(4.0), BIRD], ids=["cigar", "rod", "disc", "bird"])
def test_contract(body, num_vertices):
    template = build_template(
        body, {"left side": (0.5, 90.0), "right side": (0.5, -90.0)}, num_vertices=num_vertices
    )
    check_template_contract(template)
    assert len(template.vertices) == pytest.approx(num_vertices, abs=2)


def test_blunt_tips_make_a_smooth_cigar():
    template = build_template(cigar(), num_vertices=1000)
    body_volume = float(volume(template.vertices, template.faces))
    assert 0.6 * torch.pi / 2 < body_volume < torch.pi / 2  # below the cylinder of the same length and radius


def test_parts_are_found_by_place_and_angle():
    parts = {
        "top": (0.5, 0.0),
        "bottom": (0.5, 180.0),
        "left": (0.5, 90.0),
        "right": (0.5, -90.0),
        "rear": (1.0, 0.0),
    }
    template = build_template(cigar(), parts)
    place = dict(zip(template.part_names, template.vertices[template.part_vertices], strict=True))
    assert place["top"][2] > 0.4
    assert place["top"][0] == 0
    assert place["bottom"][2] < -0.4
    assert place["left"][0] > 0.4
    assert place["right"][0] == -place["left"][0]
    assert place["rear"].tolist() == [0.0, 1.0, 0.0]


def test_uv_layout():
    parts = {"top": (0.5, 0.0), "left": (0.5, 90.0), "front": (0.0, 0.0), "rear": (1.0, 0.0)}
    template = build_template(cigar(), parts)

    def uv(name):
        vertex = template.part_vertices[template.part_names.index(name)]
        return template.uv[template.uv_faces[template.faces == vertex]].mean(0)

    assert uv("top")[0] == pytest.approx(0.5)
    assert uv("left")[0] == pytest.approx(0.25, abs=0.03)
    assert uv("top")[1] == pytest.approx(0.5, abs=0.05)
    assert uv("front")[1] == 0
    assert uv("rear")[1] == 1


def test_lattice_points_are_differentiable_in_the_measures():
    grid = lattice(cigar(), 60)
    table = cigar().table().requires_grad_()
    reliefs = (Relief(0.3, 0.7, 60.0, 120.0, 0.1),)
    assert torch.autograd.gradcheck(lambda t: lattice_points(grid, t, reliefs).sum(-1)[::7], (table,))


def test_errors():
    with pytest.raises(ValueError, match="at least 50 vertices"):
        build_template(cigar(), num_vertices=20)
    with pytest.raises(ValueError, match=r"'eye' at 1\.5"):
        build_template(cigar(), {"eye": (1.5, 0.0)})
