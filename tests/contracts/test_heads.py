"""The contract of pose heads, for all of ours and for the example of a user's own."""

import importlib.util
from functools import partial
from pathlib import Path

import pytest
import torch

from kpose.heads import GramSchmidtHead, KeypointHead, ProcrustesHead, QuaternionHead
from kpose.structures import Camera
from kpose.testing import check_pose_head, example_batch

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_head" / "axis_angle.py"


def axis_angle_head(spec):
    module_spec = importlib.util.spec_from_file_location("axis_angle", EXAMPLE)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module.AxisAngleHead(spec)


@pytest.mark.parametrize(
    "factory",
    [
        QuaternionHead,
        GramSchmidtHead,
        ProcrustesHead,
        pytest.param(partial(KeypointHead, num_keypoints=16, width=16), id="KeypointHead"),
        pytest.param(partial(KeypointHead, num_keypoints=16, width=16, deep_weight=0.1), id="deep"),
        axis_angle_head,
    ],
)
def test_heads_keep_the_contract(factory):
    check_pose_head(factory)


def test_users_head_is_short():
    assert len(EXAMPLE.read_text().splitlines()) < 20


class RawQuaternionHead(QuaternionHead):
    """Forgets to normalise."""

    def to_rotation(self, raw):
        return super().to_rotation(raw) * raw.square().sum(-1)[..., None, None]


class FarStartHead(QuaternionHead):
    representation_start = (0.0, 1.0, 0.0, 0.0)


class UnusedLayerHead(QuaternionHead):
    def __init__(self, spec):
        super().__init__(spec)
        self.unused = torch.nn.Linear(2, 2)


class UnknownEntryHead(QuaternionHead):
    supervision = frozenset({"camera", "depth_map"})


class RandomHead(QuaternionHead):
    def forward(self, features, vertices=None):
        prediction = super().forward(features)
        scale = prediction.camera.scale * (1 + torch.rand(()))
        return type(prediction)(Camera(scale, *prediction.camera[1:]), prediction.raw)


@pytest.mark.parametrize(
    ("factory", "rule"),
    [
        (RawQuaternionHead, r"rotations in SO\(3\)"),
        (FarStartHead, "start` at the identity"),
        (UnusedLayerHead, "'unused.weight' has none"),
        (UnknownEntryHead, r"\['depth_map'\] are not in"),
        (RandomHead, "same result twice"),
    ],
)
def test_broken_heads_are_found_out(factory, rule):
    with pytest.raises(AssertionError, match=rule):
        check_pose_head(factory)


def test_the_check_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    check_pose_head(QuaternionHead)
    assert torch.equal(before, torch.get_rng_state())


def test_users_batches_may_have_more_entries():
    def make_batch(size):
        return {**example_batch(size), "depth_map": torch.zeros(size)}

    check_pose_head(UnknownEntryHead, make_batch=make_batch)
