"""Heads train on a device without making the host wait, and predict there what they predict on the CPU."""

from functools import partial

import pytest
import torch
from torch.utils._pytree import tree_map_only

from kpose.heads import (
    GramSchmidtHead,
    KeypointHead,
    LabelBorder,
    PaperKeypointHead,
    ProcrustesHead,
    QuaternionHead,
)
from kpose.losses import DivergenceLoss, PositionLoss
from kpose.structures import Features, FeatureSpec
from kpose.templates import bird
from kpose.testing import example_batch

SPEC = FeatureSpec((8, 16), (8, 16))
SMALL = {"num_keypoints": 8, "width": 8}
HEADS = {
    "quaternion": QuaternionHead,
    "gram-schmidt": GramSchmidtHead,
    "procrustes": ProcrustesHead,
    "keypoints": partial(KeypointHead, **SMALL),
    "divergence": partial(KeypointHead, loss=DivergenceLoss(), **SMALL),
    "position": partial(KeypointHead, loss=PositionLoss(), **SMALL),
    "paper": partial(PaperKeypointHead, **SMALL),
    "label-border": partial(PaperKeypointHead, border=LabelBorder(), **SMALL),
}


def to(device, value):
    return tree_map_only(torch.Tensor, lambda part: part.to(device), value)


def features(device):
    maps = [torch.rand(2, channels, 64 // stride, 64 // stride) for channels, stride in zip(*SPEC, strict=True)]
    return Features(tuple(part.to(device) for part in maps))


@pytest.mark.parametrize("name", HEADS)
def test_a_training_step_waits_for_nothing(place, name):
    head = HEADS[name](SPEC, bird()).to(place.device)
    batch, seen = to(place.device, example_batch(2)), features(place.device)
    optimizer = torch.optim.AdamW(head.parameters())

    def step():
        optimizer.zero_grad()
        torch.stack(list(head.losses(head(seen), batch).values())).sum().backward()
        optimizer.step()

    step()  # roma keeps a constant of its first call
    with place.watched() as waits:
        step()
    # A whole picture is rendered: its pairs of faces and pixels have to be counted.
    assert len(waits) == (2 if name == "label-border" else 0), waits


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_cameras_are_those_of_the_cpu(place, head):
    head = head(SPEC, bird()).eval()
    seen = features("cpu")
    expected = head(seen).camera
    found = head.to(place.device)(to(place.device, seen)).camera
    assert all(part.device == place.device for part in found)
    for part, other in zip(to("cpu", found), expected, strict=True):
        torch.testing.assert_close(part, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", [HEADS["keypoints"], HEADS["procrustes"]], ids=["keypoints", "procrustes"])
def test_gradients_through_the_camera_need_no_wait(place, head):
    head = head(SPEC, bird()).to(place.device)
    seen = features(place.device)
    with place.watched() as waits:
        camera = head.camera_of(head(seen))
        sum(part.sum() for part in camera).backward()
    assert waits == []
