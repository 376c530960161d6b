import pytest
import torch

from kpose.templates import bird
from kpose.templates.check import check_template


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: {"vertices": t.vertices * torch.nan}, "finite"),
        (lambda t: {"faces": t.faces + 1}, "out of range"),
        (lambda t: {"faces": t.faces[1:]}, "closed mesh"),
        (lambda t: {"faces": t.faces.flip(-1)}, "counter-clockwise"),
        (lambda t: {"vertices": t.vertices + torch.tensor([1e-3, 0.0, 0.0])}, "exactly symmetric"),
        (lambda t: {"mirror": t.mirror.roll(1)}, "belong to each other"),
        (lambda t: {"uv": t.uv * 2}, "texture coordinates in"),
        (lambda t: {"uv_faces": t.uv_faces[1:]}, "for each face"),
        (lambda t: {"uv_faces": t.uv_faces + len(t.uv)}, "uv_faces that point"),
        (lambda t: {"part_names": t.part_names[1:]}, "one vertex for each part"),
        (lambda t: {"part_vertices": t.part_vertices - len(t.vertices)}, "part_vertices that point"),
    ],
)
def test_wrong_templates(change, message):
    template = bird()
    with pytest.raises(ValueError, match=message):
        check_template(template._replace(**change(template)))
