import dataclasses
from functools import partial

import pytest
import torch
from pipeline.small import SHAPES, TASK, backbone

from kpose.pipeline.shapes import load_shapes, new_shapes, reconstructor_of
from kpose.reconstruction import CameraTable
from kpose.templates import bird


def task(settings=SHAPES, *, ranked=False):
    return new_shapes(settings, backbone(), CameraTable(torch.arange(4)), bird(), ranked=ranked)


@pytest.mark.parametrize(
    ("own", "rescore", "ranked", "expected"),
    [
        (True, None, False, True),
        (False, None, False, False),
        (True, None, True, False),
        (True, True, True, True),
        (True, False, False, False),
    ],
)
def test_what_appearance_or_heads_have_ranked_keeps_its_order(own, rescore, ranked, expected):
    settings = dataclasses.replace(SHAPES, rescore=rescore, task=partial(TASK, rescore=own))
    assert task(settings, ranked=ranked).rescore == expected


def test_backbone_and_reconstructor_come_back_and_are_handed_on_as_copies(tmp_path):
    trained = task()
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.1)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "last.ckpt")
    loaded = load_shapes(task(), tmp_path)
    assert not loaded.training
    for part in ("backbone", "reconstructor"):
        expected = getattr(trained, part).state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in getattr(loaded, part).state_dict().items())
    copy = reconstructor_of(loaded)(loaded.backbone.spec, bird())
    assert copy is not loaded.reconstructor
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(copy.vertices(loaded.backbone(image)), loaded(image).vertices)
