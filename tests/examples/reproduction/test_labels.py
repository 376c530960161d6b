import math

import pytest
import torch
from labels import Multiplex, SoftLabels, compare
from pipeline.small import KEYPOINT, QUIET, pipeline

from kpose.pipeline import RerankSettings

pytestmark = QUIET


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    heads = {"keypoint": KEYPOINT}
    return pipeline(folder / "out", folder / "birds", heads=heads, rerank=RerankSettings(heads, folds=2))


def test_cameras_are_drawn_by_their_posterior(small):
    file, images = small.learn_cameras().file, small.data.dataset("train")
    best = SoftLabels(file, images, Multiplex(1))
    assert torch.equal(best.posterior, torch.ones(len(images), 1))
    several = SoftLabels(file, images, Multiplex(3, temperature=0.5))
    assert several.posterior.sum(-1).numpy() == pytest.approx(1)
    assert torch.equal(several.posterior.argmax(-1), several.table.score.argmin(-1))
    flat = SoftLabels(file, images, Multiplex(3, temperature=math.inf))
    batch = next(iter(small.training_data(8).train_dataloader()))
    drawn = []
    for _ in range(20):
        flat.on_train_batch_start(None, None, batch, 0)
        drawn.append(batch["camera"].rotation)
    rows = flat.table.rows(batch["index"])
    candidates = flat.table.in_crop(flat.table.cameras(rows), rows, batch["crop"], batch.get("flipped")).rotation
    nearest = (torch.stack(drawn)[:, :, None] - candidates).abs().amax((-2, -1))
    assert nearest.amin(-1).max() < 1e-6
    assert (nearest.argmin(-1).unique() == torch.arange(3)).all()


def test_variants_differ_in_what_they_learn_and_a_rerun_does_not(small):
    variants = {"best": Multiplex(1), "three": Multiplex(3, temperature=0.5)}
    found = compare(small, variants)
    assert list(found) == [f"{stage}: {name}" for stage in ("chosen", "re-ranked") for name in variants]
    assert compare(small, variants) == found
    for stage in ("chosen", "re-ranked"):
        best, three = (found[f"{stage}: {name}"] for name in variants)
        assert best["likeliest_deg"] == best["expected_deg"] == best["best_of_kept_deg"]
        assert three["best_of_kept_deg"] <= best["best_of_kept_deg"]
        assert three["angle_deg"] != best["angle_deg"]
