from pathlib import Path

import pytest
import torch
import trimesh
from cli.conftest import call
from PIL import Image
from templates.checks import check_template_contract

from kpose.templates import load_template

BODY = ["--body", "1.2", "0.5", "0.5", "--limb", "0.1", "-0.3", "-0.1", "0.4", "0.1", "--vertices", "200"]


def test_from_measures(tmp_path, capsys):
    out, picture = tmp_path / "new" / "dog.safetensors", tmp_path / "dog.png"
    more = ["--limb", "0.1", "0.3", "-0.1", "0.4", "0.1", "0", "0.2", "-1"]
    assert call("template", *BODY, *more, "--out", str(out), "--picture", str(picture), "--size", "3") == 0
    template = load_template(out)
    check_template_contract(template)
    extent = (template.vertices.amax(0) - template.vertices.amin(0)).max()
    assert torch.allclose(extent, torch.tensor(3.0), atol=1e-4)
    assert "vertices, " in capsys.readouterr().err
    with Image.open(picture) as drawn:
        assert drawn.size == (6 * 256, 256)
    assert call("template", *BODY, "--out", str(out)) == 1
    assert "exists" in capsys.readouterr().err


def test_a_full_disk_is_one_line(tmp_path, capsys, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert call("template", *BODY, "--out", tmp_path / "dog.safetensors") == 1
    assert capsys.readouterr().err == (
        "kpose template: [Errno 28] No space left on device. Free some space there, or write elsewhere.\n"
    )
    assert not [*tmp_path.iterdir()]


def test_from_a_mesh(tmp_path, capsys):
    mesh = trimesh.creation.box((0.5, 1.0, 2.0))
    mesh.export(tmp_path / "box.obj")
    out = tmp_path / "box.safetensors"
    assert call("template", tmp_path / "box.obj", "--front=-z", "--up=+x", "--out", out, "--vertices", "100") == 0
    template = load_template(out)
    extents = template.vertices.amax(0) - template.vertices.amin(0)
    assert torch.allclose(extents, torch.tensor([1.0, 2.0, 0.5]), atol=0.1)
    assert "0.0% of the mesh was not symmetric" in capsys.readouterr().err
    assert call("template", tmp_path / "none.obj", "--out", tmp_path / "none.safetensors") == 1


def test_asymmetric_mesh_in_one_line(tmp_path, capsys):
    ball = trimesh.creation.icosphere(2).apply_scale((1, 1, 0.3))
    knob = trimesh.creation.box((2.0, 0.8, 0.2)).apply_translation((1.5, 0, 0))
    trimesh.util.concatenate([ball, knob]).export(tmp_path / "odd.ply")
    arguments = [str(tmp_path / "odd.ply"), "--out", str(tmp_path / "odd.safetensors"), "--vertices", "100"]
    assert call("template", *arguments, "--tolerance", "0.05") == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert call("template", *arguments, "--tolerance", "0.05", "--symmetrize") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["a.obj", "--body", "1", "1", "1"],
        ["a.obj", "--limb", "1", "1", "1", "1", "1"],
        ["--body", "1", "1", "1", "--limb", "1", "1"],
        ["a.obj", "--size", "inf"],
    ],
)
def test_wrong_arguments(arguments, capsys):
    assert call("template", *arguments, "--out", "a.safetensors") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kpose template: ")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--size", "0", "must be positive; got 0"),
        ("--size", "-1", "must be positive; got -1"),
        ("--vertices", "500000", "from 50 to 20000; got 500000"),
        ("--vertices", "4", "from 50 to 20000; got 4"),
    ],
)
def test_measures_that_make_no_template(option, value, message, tmp_path, capsys):
    assert call("template", *BODY, f"{option}={value}", "--out", str(tmp_path / "dog.safetensors")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())
