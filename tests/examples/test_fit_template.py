import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from templates.checks import check_template_contract

from kpose.templates import bird, load_template

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        return SimpleNamespace(**runpy.run_path(str(EXAMPLES / "fit_template.py")))


def test_the_shipped_bird_is_what_the_builder_makes(example, tmp_path):
    example.build(tmp_path / "bird.safetensors")
    built, shipped = load_template(tmp_path / "bird.safetensors"), bird()
    # Vertices are rounded to 1e-5: a last bit may move one by one step on another machine.
    torch.testing.assert_close(built.vertices, shipped.vertices, atol=1.5e-5, rtol=0)
    torch.testing.assert_close(built.uv, shipped.uv, atol=1e-6, rtol=0)
    for name in ("faces", "uv_faces", "mirror", "part_vertices"):
        assert torch.equal(getattr(built, name), getattr(shipped, name)), name
    assert built.part_names == shipped.part_names


@pytest.mark.parametrize("num_vertices", [50, 200, 1000])
def test_the_bird_of_other_sizes(example, num_vertices):
    template = example.loft_template(example.BIRD, example.BIRD_PARTS, num_vertices=num_vertices)
    check_template_contract(template)
    assert len(template.vertices) == pytest.approx(num_vertices, abs=2)


def test_no_change_of_a_drawing_is_the_drawing(example):
    drawing = example.START.table()
    torch.testing.assert_close(example.changed(drawing, torch.zeros_like(drawing)), drawing)


def test_the_bird_is_drawn_from_sixteen_sides(example, tmp_path):
    from PIL import Image

    example.draw(tmp_path / "bird.png", size=16)
    with Image.open(tmp_path / "bird.png") as picture:
        assert picture.size == (8 * 16, 2 * 16)
