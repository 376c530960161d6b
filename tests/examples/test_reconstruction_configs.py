"""The configuration files of stage 2 through the command line, on a handful of synthetic birds."""

import sys
from pathlib import Path

import pytest
import torch

from kpose.cli import main
from kpose.data import SyntheticBirdsDataset
from kpose.geometry import box_to_crop
from kpose.reconstruction import CameraTable, ViewpointGrid
from kpose.tasks import ShapeTraining

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"
COUNT, SIZE = 8, 32

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`"),
    # Lightning 2.6 still registers instantiators the old way.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture
def arguments(cache, tmp_path, monkeypatch):
    """Layer the files, made tiny, with cameras as stage 1 leaves them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kpose"])
    dataset = SyntheticBirdsDataset(COUNT, SIZE, cache_dir=cache)
    table = CameraTable(dataset.indices, names=dataset.names, grid=ViewpointGrid(6, 1))
    rows = table.rows(dataset.indices)
    table.set_reference_crop(rows, box_to_crop(torch.tensor([0.0, 0.0, SIZE, SIZE]).expand(COUNT, 4)))
    table.set_score(rows, torch.rand(COUNT, 6))
    table.save(tmp_path / "cameras.safetensors")
    tiny = {
        "model.backbone.width": 8,
        "model.cameras": tmp_path / "cameras.safetensors",
        "model.reconstructor.texture.height": 8,
        "model.reconstructor.texture.width": 2,
        "data.cache_dir": cache,
        "data.num_train": COUNT,
        "data.num_val": 2,
        "data.num_test": 2,
        "data.image_size": SIZE,
        "data.batch_size": 4,
        "trainer.accelerator": "cpu",
        "trainer.max_epochs": 2,
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
        "trainer.enable_model_summary": "false",
    }
    return [
        f"--config={CONFIGS / 'data' / 'synthetic.yaml'}",
        *(f"--{name}={value}" for name, value in tiny.items()),
    ]


@pytest.mark.parametrize("paper", [False, True])
def test_a_run_leaves_a_checkpoint_that_rebuilds_itself(paper, arguments, tmp_path):
    names = ["released", "paper"][: 1 + paper]
    files = [f"--config={CONFIGS / 'reconstruction' / f'{name}.yaml'}" for name in names]
    prune = ["--trainer.callbacks+=PruneCameras", "--trainer.callbacks.epoch=1", "--trainer.callbacks.keep=2"]
    main(["fit", *files, *arguments, *prune])
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    task = ShapeTraining.load_from_checkpoint(checkpoint, weights_only=True)
    assert task.table.num_cameras == 2
    assert task.table.num_images == COUNT
    assert task.objective.paper_terms == paper
    assert task.backbone.frozen != paper
    assert task(torch.rand(2, 3, SIZE, SIZE)).texture.shape == (2, 3, 8, 16)
