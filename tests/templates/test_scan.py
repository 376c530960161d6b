import sys

import pytest
import torch
import trimesh
from templates.checks import check_template_contract

from kpose.templates import bird, template_from_mesh


def test_bird_survives_the_detour(tmp_path):
    pytest.importorskip("skimage")
    template = bird()
    mesh = trimesh.Trimesh(template.vertices.numpy(), template.faces.numpy(), process=False)
    mesh.export(tmp_path / "bird.ply")
    size = float((template.vertices.amax(0) - template.vertices.amin(0)).max())
    again, asymmetry = template_from_mesh(tmp_path / "bird.ply", size=size, cells=64)
    assert asymmetry < 0.01
    check_template_contract(again)
    center = (template.vertices.amax(0) + template.vertices.amin(0)) / 2
    nearest = torch.cdist(template.vertices - center, again.vertices).min(-1).values
    assert nearest.mean() < 0.06
    assert nearest.max() < 0.16


def test_a_ring_becomes_a_disc(tmp_path):
    pytest.importorskip("skimage")
    trimesh.creation.torus(1.0, 0.4).export(tmp_path / "ring.ply")
    template, _ = template_from_mesh(tmp_path / "ring.ply", cells=32, num_vertices=200)
    check_template_contract(template)


def test_a_missing_extra_is_named_in_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "skimage.measure", None)
    monkeypatch.delitem(sys.modules, "kpose.templates.voxels", raising=False)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'kpose\[template\]'") as info:
        template_from_mesh(tmp_path / "bird.ply")
    assert "\n" not in str(info.value)
