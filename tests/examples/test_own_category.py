"""The guide for a category of one's own, made small: its script, its command and its data module."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest
import torch
from templates.checks import check_template_contract

from kpose.cli import main as kpose
from kpose.data import FolderDataModule
from kpose.geometry import viewpoint_to_matrix
from kpose.rendering import HardRenderer
from kpose.structures import Camera
from kpose.templates import load_template, template_mesh

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "own_category.md").read_text(encoding="utf-8")


def commands(start):
    """Return the arguments of the guide's commands that start like this."""
    blocks = re.findall(r"```sh\n(.*?)\n```", GUIDE, flags=re.DOTALL)
    return [
        shlex.split(line, comments=True)
        for block in blocks
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith(start)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Folder in which the guide's first commands have been run."""
    folder = tmp_path_factory.mktemp("guide")
    [script] = commands("python")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        small = ["--count", "8", "--size", "64", "--vertices", "300"]
        patch.setattr(sys, "argv", [*script[1:], *small])
        runpy.run_path(str(ROOT / script[1]), run_name="__main__")
        car = next(line for line in commands("kpose template --body") if "car.png" in line)
        kpose([*car[1:], "--vertices", "300"])
    return folder


def test_data_module_reads_the_pictures(folder):
    data = FolderDataModule(folder / "cars", image_size=32, batch_size=4)
    assert data.photos.problems == ()
    assert data.dataset("train").names == tuple(n for n in data.photos.names if n not in data.dataset("val").names)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    batch = data.augment(batch, seed=0)
    assert batch["image"].shape == (4, 3, 32, 32)
    cover = batch["mask"].float().mean((1, 2))
    assert (cover > 0.2).all()
    assert (cover < 0.9).all()
    # Cars are in front of gray streets: what is masked differs from what is not.
    weight = batch["mask"][:, None].float()
    inside = (batch["image"] * weight).sum((2, 3)) / weight.sum((2, 3))
    outside = (batch["image"] * (1 - weight)).sum((2, 3)) / (1 - weight).sum((2, 3))
    assert (inside - outside).norm(dim=-1).min() > 0.1


def test_template_of_the_guide(folder):
    template = load_template(folder / "car.safetensors")
    check_template_contract(template)
    assert len(template.vertices) in (299, 300)
    width, length, height = (template.vertices.amax(0) - template.vertices.amin(0)).tolist()
    assert length == pytest.approx(2.0, abs=1e-4)
    assert 1.0 < width < 1.2
    assert 0.6 < height < 0.85
    assert (folder / "car.png").exists()


def test_silhouettes_of_the_template_are_those_of_cars(folder):
    """From the side, the template covers what a side view of it should: longer than high, wheels below."""
    template = load_template(folder / "car.safetensors")
    side = viewpoint_to_matrix(torch.tensor(torch.pi / 2), torch.tensor(0.0), torch.tensor(0.0))
    camera = Camera(torch.tensor(0.9), torch.zeros(2), side)
    mask = HardRenderer().render(template_mesh(template), camera, 64).mask > 0.5
    rows, columns = mask.nonzero().unbind(-1)
    assert (columns.max() - columns.min()) > 2 * (rows.max() - rows.min())
    lowest = mask[rows.max() - 2].int()
    assert (lowest.diff() == 1).sum() == 2  # two wheels touch the ground


SMALL = [
    "--data.init_args.image_size=32",
    "--data.init_args.batch_size=4",
    "--data.init_args.val_share=0.3",
    "--search.levels=[{size: 16, steps: 2, lr: 0.1, sigma: 4.0e-4}]",
    "--search.grid={azimuths: 2, elevations: 1}",
    "--search.num_vertices=100",
    "--choice.rounds=1",
    "--choice.num_rotations=200",
    "--backbone.init_args.width=8",
    "--pose={epochs: 1, batch_size: 4}",
    "--heads={keypoint: {class_path: KeypointHead, init_args: {num_keypoints: 8, width: 8}}}",
    "--trainer.accelerator=cpu",
]


@pytest.mark.filterwarnings("ignore:The .* does not have many workers")
@pytest.mark.filterwarnings("ignore:The number of training batches")
# Lightning 2.6 still registers instantiators the old way.
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_the_pipeline_trains_and_the_checkpoint_predicts(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    [command] = commands("kpose pipeline")
    kpose([str(ROOT / word) if word.endswith(".yaml") else word for word in command[1:]] + SMALL)
    out = folder / command[command.index("--out") + 1]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["cameras"] is None
    assert metrics["heads"]["keypoint"].keys() == {"iou", "iou_soft"}
    assert (out / "report.html").exists()
    [predict] = commands("kpose predict")
    template = folder / "car.safetensors"
    moved = template.rename(folder / "elsewhere.safetensors")  # the checkpoint holds what prediction needs
    kpose(predict[1:])
    moved.rename(template)
    assert (folder / predict[predict.index("--out") + 1]).is_dir()
