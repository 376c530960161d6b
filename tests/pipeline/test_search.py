import copy

import pytest
import torch
from pipeline.small import BATCH, BATCHES, QUIET, Kill, birds, killed_at

from kpose.pipeline import SearchSettings, TrainerSettings
from kpose.pipeline.engine import Engine
from kpose.pipeline.search import search
from kpose.reconstruction import CameraTable, SearchLevel, ViewpointGrid
from kpose.tasks import CameraSearch
from kpose.templates import bird

pytestmark = QUIET

SETTINGS = SearchSettings((SearchLevel(16, 3, 0.1, 4e-4),), ViewpointGrid(4, 1), 100, batch_size=BATCH)


def searched(data, folder, **options):
    search(data, SETTINGS, folder, template=bird(), engine=Engine(TrainerSettings("cpu")), **options)
    return CameraTable.for_images(data.dataset("train"), file=folder / "cameras.safetensors")


def test_a_search_goes_on_with_the_images_that_are_left(cache, tmp_path, monkeypatch):
    data = birds(cache)
    (tmp_path / "whole").mkdir()
    whole = searched(data, tmp_path / "whole")
    assert whole.scored.all()
    (tmp_path / "parts").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        killed_at(patch, CameraSearch, "training_step", BATCHES)
        with pytest.raises(Kill):
            searched(data, tmp_path / "parts")
    steps = []
    step = CameraSearch.training_step
    monkeypatch.setattr(CameraSearch, "training_step", lambda self, *args: steps.append(1) or step(self, *args))
    parts = searched(data, tmp_path / "parts")
    assert len(steps) == 1
    assert torch.equal(parts.rotation, whole.rotation)
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {"cameras.safetensors"}


def test_the_best_camera_found_replaces_the_worst_of_another_table(cache, tmp_path):
    data = birds(cache)
    table = searched(data, tmp_path)
    before = copy.deepcopy(table)
    start = copy.deepcopy(table)
    start.reset(table.best().at((slice(None), None)))
    found = searched(data, tmp_path, start=start, best_of=table)
    moved = (found.rotation != before.rotation).flatten(2).any(-1)
    assert torch.equal(found.order[:, 0], before.order[:, -1])
    assert (moved.nonzero()[:, 1] == found.order[moved.any(-1), 0]).all()
    assert moved.any()
