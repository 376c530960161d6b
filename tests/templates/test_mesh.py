import pytest
import torch

from kpose.templates import bird, template_mesh


def test_template_mesh():
    template = bird()
    batch = template.vertices.expand(2, -1, -1)
    mesh = template_mesh(template, batch, texture=torch.zeros(2, 3, 4, 8))
    assert mesh.vertices.shape[0] == 2
    assert mesh.uv is template.uv
    with pytest.raises(ValueError, match="got both"):
        template_mesh(template, None, torch.zeros(3, 4, 8), torch.zeros_like(template.vertices))
    with pytest.raises(ValueError, match="needs 642 vertices"):
        template_mesh(template, batch[:, 1:])
