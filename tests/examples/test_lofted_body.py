import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from templates.checks import check_template_contract

from kpose.geometry._mesh import volume

LOFT = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "examples" / "lofted_body.py")))
Body, Relief, Section, loft_template = LOFT.Body, LOFT.Relief, LOFT.Section, LOFT.loft_template


def ball(**changes):
    rows = [Section(-1.0, 0.0, 0.0, 0.0), *(Section(y, 0.0, 1.0, 1.0) for y in (-1.0, 0.0, 1.0))]
    return Body((*rows, Section(1.0, 0.0, 0.0, 0.0)), **changes)


def test_blend_starts_and_ends_at_the_outer_rows_and_stays_between():
    table = torch.rand(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = LOFT.blend(table, torch.linspace(0, 1, 101, dtype=torch.float64))
    assert torch.allclose(values[[0, -1]], table[[0, -1]])
    assert (values.amin(0) >= table.amin(0)).all()
    assert (values.amax(0) <= table.amax(0)).all()


def test_blend_reproduces_straight_lines_inside():
    rows = torch.arange(10.0, dtype=torch.float64)[:, None]
    values = LOFT.blend(rows, torch.linspace(0.5, 0.55, 11, dtype=torch.float64))
    assert torch.allclose(values.diff(dim=0), values.diff(dim=0).mean().expand(10, 1))


def test_surface_gradcheck():
    table = ball().table().requires_grad_()
    place = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    angle = torch.tensor([0.3, 1.5, 2.9], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t: LOFT.surface(t, place, angle), (table,))


def test_lean_tips_the_section_forward():
    table = ball().table()
    table[:, 5] = 90.0 - 1e-9
    place, angle = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([0.0, 3.141592653589793]).double()
    top, bottom = LOFT.surface(table, place, angle)
    assert top[1] < 0 < bottom[1]
    assert top[2].abs() < 1e-6


def test_sag_lowers_the_widest_point_and_keeps_top_and_bottom():
    angle = torch.linspace(0, torch.pi, 181, dtype=torch.float64)
    table = ball().table()
    round_, table[:, 4] = LOFT.surface(table, torch.full_like(angle, 0.5), angle), 0.5
    sagging = LOFT.surface(table, torch.full_like(angle, 0.5), angle)
    assert torch.allclose(round_[[0, -1]], sagging[[0, -1]], atol=1e-12)
    assert sagging[sagging[:, 0].argmax(), 2] < -0.2


def test_relief_swells_inside_its_patch_only_and_on_both_sides():
    relief = Relief(0.3, 0.7, 60.0, 120.0, 0.1)
    place = torch.tensor([0.5, 0.5, 0.2, 0.5], dtype=torch.float64)
    angle = torch.tensor([90.0, -90.0, 90.0, 10.0], dtype=torch.float64).deg2rad()
    moved = LOFT.surface(ball().table(), place, angle, (relief,)) - LOFT.surface(ball().table(), place, angle)
    expected = torch.tensor([[0.1, 0, 0], [-0.1, 0, 0], [0, 0, 0], [0, 0, 0]], dtype=torch.float64)
    assert torch.allclose(moved, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("row", "section", "message"),
    [
        (0, Section(-1.0, 0.0, 0.1, 0.0), "tips of zero"),
        (2, Section(0.0, 0.0, -1.0, 1.0), "positive widths"),
        (2, Section(-1.5, 0.0, 1.0, 1.0), "y growing"),
        (2, Section(0.0, 0.0, 1.0, 1.0, 1.0), "sags between"),
        (2, Section(0.0, 0.0, 1.0, 1.0, 0.0, 90.0), "leans between"),
        (2, Section(0.0, float("nan"), 1.0, 1.0), "finite"),
    ],
)
def test_wrong_measures(row, section, message):
    rows = list(ball().sections)
    rows[row] = section
    with pytest.raises(ValueError, match=message):
        Body(tuple(rows))


def test_too_few_sections():
    with pytest.raises(ValueError, match="at least 5 sections"):
        Body(ball().sections[:3])


def cigar(radius=0.5, **changes):
    rows = [Section(-1.0, 0.0, 0.0, 0.0), *(Section(-1.0 + 0.4 * k, 0.0, radius, radius) for k in range(6))]
    return Body((*rows, Section(1.0, 0.0, 0.0, 0.0)), **changes)


@pytest.mark.parametrize("num_vertices", [50, 200, 642, 1000])
@pytest.mark.parametrize("body", [cigar(), cigar(0.02), cigar(4.0)], ids=["cigar", "rod", "disc"])
def test_contract(body, num_vertices):
    template = loft_template(
        body, {"left side": (0.5, 90.0), "right side": (0.5, -90.0)}, num_vertices=num_vertices
    )
    check_template_contract(template)
    assert len(template.vertices) == pytest.approx(num_vertices, abs=2)


def test_blunt_tips_make_a_smooth_cigar():
    template = loft_template(cigar(), num_vertices=1000)
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
    template = loft_template(cigar(), parts)
    place = dict(zip(template.part_names, template.vertices[template.part_vertices], strict=True))
    assert place["top"][2] > 0.4
    assert place["top"][0] == 0
    assert place["bottom"][2] < -0.4
    assert place["left"][0] > 0.4
    assert place["right"][0] == -place["left"][0]
    assert place["rear"].tolist() == [0.0, 1.0, 0.0]


def test_uv_layout():
    parts = {"top": (0.5, 0.0), "left": (0.5, 90.0), "front": (0.0, 0.0), "rear": (1.0, 0.0)}
    template = loft_template(cigar(), parts)

    def uv(name):
        vertex = template.part_vertices[template.part_names.index(name)]
        return template.uv[template.uv_faces[template.faces == vertex]].mean(0)

    assert uv("top")[0] == pytest.approx(0.5)
    assert uv("left")[0] == pytest.approx(0.25, abs=0.03)
    assert uv("top")[1] == pytest.approx(0.5, abs=0.05)
    assert uv("front")[1] == 0
    assert uv("rear")[1] == 1


def test_lattice_points_are_differentiable_in_the_measures():
    grid = LOFT.lattice(cigar(), 60)
    table = cigar().table().requires_grad_()
    reliefs = (Relief(0.3, 0.7, 60.0, 120.0, 0.1),)
    assert torch.autograd.gradcheck(lambda t: LOFT.lattice_points(grid, t, reliefs).sum(-1)[::7], (table,))


def test_wrong_requests():
    with pytest.raises(ValueError, match="at least 50 vertices"):
        loft_template(cigar(), num_vertices=20)
    with pytest.raises(ValueError, match=r"'eye' at 1\.5"):
        loft_template(cigar(), {"eye": (1.5, 0.0)})
