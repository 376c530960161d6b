"""Two processes run all stages as one does."""

import dataclasses
import json
from functools import partial
from pathlib import Path

import pytest
import torch
from pipeline.small import ADAPTATION, BATCH, IMAGES, KEYPOINT, QUIET, SHAPES, TASK, backbone, pipeline
from processes import in_two_processes, join

from kpose.pipeline import AdaptationSettings, PoseSettings, RerankSettings, TrainerSettings
from kpose.reconstruction import CameraTable, SearchLevel

pytestmark = QUIET


def run(folder, name, devices):
    """Run all stages on features that are kept, whose views do not depend on the number of processes."""
    settings = {
        "backbone": backbone().freeze(),
        "views": 2,
        "heads": {"keypoint": KEYPOINT},
        "rerank": RerankSettings({"points": KEYPOINT}, fit=SearchLevel(16, 2, 0.05, 4e-4)),
        "shapes": dataclasses.replace(SHAPES, epochs=1, prune_epoch=0, task=partial(TASK, render_size=16)),
        "pose": PoseSettings(epochs=1, batch_size=BATCH),
        "adaptation": AdaptationSettings(epochs=1, batch_size=BATCH, task=partial(ADAPTATION, head_lr=1e-4)),
        "trainer": TrainerSettings("cpu", devices=devices),
    }
    return pipeline(Path(folder, name), Path(folder, "birds"), **settings).run()


def run_rank(rank: int, folder: str) -> None:
    join(rank, folder)
    Path(folder, f"{rank}.json").write_text(json.dumps(run(folder, "two", 2)))


def cameras(folder, step):
    (path,) = folder.glob(f"{step}/*/cameras.safetensors")
    table = CameraTable(torch.arange(IMAGES))
    table.load(path)
    return table


@pytest.mark.ddp
def test_two_processes_give_the_results_of_one(tmp_path):
    one = run(tmp_path, "one", 1)
    in_two_processes(run_rank, tmp_path)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second == json.loads((tmp_path / "two" / "metrics.json").read_text())
    searched, alone = (cameras(tmp_path / name, "cameras") for name in ("two", "one"))
    for name in ("scale", "translation", "rotation", "score", "order"):
        assert torch.equal(getattr(searched, name), getattr(alone, name)), name
    chosen, alone = (cameras(tmp_path / name, "choice") for name in ("two", "one"))
    assert torch.allclose(chosen.score, alone.score, atol=1e-4)
    assert first["searched_cameras"] == one["searched_cameras"]
    assert first["chosen_cameras"] == pytest.approx(one["chosen_cameras"], abs=0.5)
    # A keypoint head's loss is a weighted mean over the maps of a process: halves weigh differently, and heads that
    # have seen two batches are far from sure.
    for name in ("reranked_cameras", "cameras"):
        assert first[name] == pytest.approx(one[name], abs=10.0), name
    scores, expected = first["heads"]["keypoint"], one["heads"]["keypoint"]
    assert scores.keys() == expected.keys()
    assert scores["angle_deg"] == pytest.approx(expected["angle_deg"], abs=20.0)
    assert scores["iou"] == pytest.approx(expected["iou"], abs=0.1)
    folders = [sorted(path.parent.relative_to(tmp_path / name) for path in (tmp_path / name).glob("*/**/done.json"))
               for name in ("one", "two")]  # fmt: skip
    assert folders[0] == folders[1]  # devices are no part of what results are made from
