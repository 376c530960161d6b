import pytest
import torch

from kpose.templates import Body, Relief, Section
from kpose.templates.body import blend, surface


def ball(**changes):
    rows = [Section(-1.0, 0.0, 0.0, 0.0), *(Section(y, 0.0, 1.0, 1.0) for y in (-1.0, 0.0, 1.0))]
    return Body((*rows, Section(1.0, 0.0, 0.0, 0.0)), **changes)


def test_blend_starts_and_ends_at_the_outer_rows_and_stays_between():
    table = torch.rand(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = blend(table, torch.linspace(0, 1, 101, dtype=torch.float64))
    assert torch.allclose(values[[0, -1]], table[[0, -1]])
    assert (values.amin(0) >= table.amin(0)).all()
    assert (values.amax(0) <= table.amax(0)).all()


def test_blend_reproduces_straight_lines_inside():
    rows = torch.arange(10.0, dtype=torch.float64)[:, None]
    values = blend(rows, torch.linspace(0.5, 0.55, 11, dtype=torch.float64))
    assert torch.allclose(values.diff(dim=0), values.diff(dim=0).mean().expand(10, 1))


def test_surface_gradcheck():
    table = ball().table().requires_grad_()
    place = torch.tensor([0.1, 0.5, 0.8], dtype=torch.float64)
    angle = torch.tensor([0.3, 1.5, 2.9], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t: surface(t, place, angle), (table,))


def test_lean_tips_the_section_forward():
    table = ball().table()
    table[:, 5] = 90.0 - 1e-9
    place, angle = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([0.0, 3.141592653589793]).double()
    top, bottom = surface(table, place, angle)
    assert top[1] < 0 < bottom[1]
    assert top[2].abs() < 1e-6


def test_sag_lowers_the_widest_point_and_keeps_top_and_bottom():
    angle = torch.linspace(0, torch.pi, 181, dtype=torch.float64)
    table = ball().table()
    round_, table[:, 4] = surface(table, torch.full_like(angle, 0.5), angle), 0.5
    sagging = surface(table, torch.full_like(angle, 0.5), angle)
    assert torch.allclose(round_[[0, -1]], sagging[[0, -1]], atol=1e-12)
    assert sagging[sagging[:, 0].argmax(), 2] < -0.2


def test_relief_swells_inside_its_patch_only_and_on_both_sides():
    relief = Relief(0.3, 0.7, 60.0, 120.0, 0.1)
    place = torch.tensor([0.5, 0.5, 0.2, 0.5], dtype=torch.float64)
    angle = torch.tensor([90.0, -90.0, 90.0, 10.0], dtype=torch.float64).deg2rad()
    moved = surface(ball().table(), place, angle, (relief,)) - surface(ball().table(), place, angle)
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
