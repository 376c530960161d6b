import html
import re

import pytest
import torch

from kpose.inference import MeshViewer
from kpose.structures import Mesh
from kpose.templates import bird, template_mesh


def test_a_notebook_shows_the_whole_page_in_a_frame() -> None:
    viewer = MeshViewer(template_mesh(bird()), height=200)
    shown = viewer._repr_html_()
    [page] = re.findall(r'<iframe srcdoc="([^"]*)"', shown)
    assert html.unescape(page) == viewer.page
    assert "height: 200px" in shown


def test_the_page_reads_nothing_else() -> None:
    mesh = template_mesh(bird())
    page = MeshViewer(mesh._replace(vertex_colors=torch.rand(len(mesh.vertices), 3))).page
    assert not re.findall(r'(?:src|href)="http', page)


def test_a_batch_of_meshes_is_refused() -> None:
    mesh = template_mesh(bird())
    with pytest.raises(ValueError, match="one mesh"):
        MeshViewer(Mesh(mesh.vertices[None], mesh.faces))
