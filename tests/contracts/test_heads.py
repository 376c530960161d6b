"""The contract of pose heads, for all of ours and for the examples of a user's own."""

import importlib.util
import math
from functools import partial
from pathlib import Path

import pytest
import torch

from kpose.geometry import axis_angle_to_matrix, quaternion_to_matrix
from kpose.heads import (
    GramSchmidtHead,
    KeypointHead,
    LabelBorder,
    PaperKeypointHead,
    ProcrustesHead,
    QuaternionHead,
    RotationPrediction,
)
from kpose.losses import DivergenceLoss, PositionLoss
from kpose.reconstruction import ViewpointGrid
from kpose.structures import Camera, FeatureSpec
from kpose.testing import check_pose_head, example_batch

EXAMPLES = Path(__file__).parents[2] / "examples" / "custom_head"
CLASSES = {"axis_angle": "AxisAngleHead", "rotation_bins": "RotationBinsHead"}
KEYPOINT_HEADS = {
    "keypoints": partial(KeypointHead),
    "divergence": partial(KeypointHead, loss=DivergenceLoss()),
    "position": partial(KeypointHead, loss=PositionLoss()),
    "template-points": partial(KeypointHead, reads_shapes=False),
    "bare": partial(KeypointHead, confidence_weight=0.0, deep_weight=0.0),
    "paper": partial(PaperKeypointHead),
    "label-border": partial(PaperKeypointHead, border=LabelBorder()),
}


def example_head(name):
    module_spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return getattr(module, CLASSES[name])


@pytest.mark.parametrize(
    "factory",
    [
        QuaternionHead,
        GramSchmidtHead,
        ProcrustesHead,
        *(
            pytest.param(partial(head, num_keypoints=16, width=16), id=name)
            for name, head in KEYPOINT_HEADS.items()
        ),
        *(pytest.param(example_head(name), id=name) for name in CLASSES),
    ],
)
def test_heads_keep_the_contract(factory):
    check_pose_head(factory)


def test_every_example_is_short_and_tested():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == CLASSES.keys()
    for name in CLASSES:
        lines = (EXAMPLES / f"{name}.py").read_text().splitlines()
        assert len(lines) < 40
        assert f"{CLASSES[name]}" in (EXAMPLES / f"{name}.yaml").read_text()


def test_bins_turn_out_of_the_best_viewpoint():
    head = example_head("rotation_bins")(FeatureSpec((8, 8), (8, 16)))
    grid = ViewpointGrid().rotations()
    raw = torch.zeros(2, len(grid), 4)
    raw[0, 7, 0] = raw[1, 30, 0] = 1
    raw[1, 30, 1:] = torch.tensor([0.0, 0.0, 0.3])
    turn = axis_angle_to_matrix(torch.tensor([0.0, 0.0, 0.3]))
    rotation = head.to_rotation(raw.flatten(1))
    torch.testing.assert_close(rotation, torch.stack((grid[7], turn @ grid[30])))
    camera = Camera(torch.ones(2), torch.zeros(2, 2), rotation)
    terms = head.losses(RotationPrediction(camera, raw.flatten(1)), {"camera": camera})
    assert terms["rotation"] < 1e-6  # the turn out of the right viewpoint
    assert terms["bin"] == pytest.approx(math.log(39 + math.e) - 1)


class RawQuaternionHead(QuaternionHead):
    """Forgets to normalize."""

    def to_rotation(self, raw):
        return super().to_rotation(raw) * raw.square().sum(-1)[..., None, None]


class StuckStartHead(GramSchmidtHead):
    representation_start = None


class FlatStartHead(QuaternionHead):
    representation_start = (1e4, 0.0, 0.0, 0.0)


class NaiveAxisAngleHead(GramSchmidtHead):
    """Starts at the zero vector, where its angle has no gradient."""

    representation_size = 3
    representation_start = None

    def to_rotation(self, raw):
        angle = raw.norm(dim=-1, keepdim=True)
        half = 0.5 * angle
        axis = raw * torch.where(angle > 0, half.sin() / angle, 0.5)
        return quaternion_to_matrix(torch.cat((half.cos(), axis), -1))


class CollinearStartHead(GramSchmidtHead):
    """Starts where the second column has no direction of its own."""

    representation_start = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


class HalfTurnStartHead(ProcrustesHead):
    """Starts at a reflection, whose nearest rotation is not unique."""

    representation_start = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)


class UnusedLayerHead(QuaternionHead):
    def __init__(self, spec, template):
        super().__init__(spec, template)
        self.unused = torch.nn.Linear(2, 2)


class UnknownEntryHead(QuaternionHead):
    supervision = frozenset({"camera", "depth_map"})


class RandomHead(QuaternionHead):
    def forward(self, features, vertices=None):
        prediction = super().forward(features)
        scale = prediction.camera.scale * (1 + torch.rand(()))
        return type(prediction)(Camera(scale, *prediction.camera[1:]), prediction.raw)


class SecretReaderHead(QuaternionHead):
    def forward(self, features, vertices=None):
        prediction = super().forward(features)
        scale = prediction.camera.scale / (1 if vertices is None else vertices.norm())
        return type(prediction)(prediction.camera._replace(scale=scale), prediction.raw)


@pytest.mark.parametrize(
    ("factory", "rule"),
    [
        (RawQuaternionHead, r"rotations in SO\(3\)"),
        (StuckStartHead, "start` from which every small turn can be reached"),
        (FlatStartHead, "start` from which every small turn can be reached"),
        (NaiveAxisAngleHead, r"`to_rotation` has a finite gradient; that at \[0.0, 0.0, 0.0\] is not"),
        (CollinearStartHead, "start` from which every small turn can be reached"),
        (HalfTurnStartHead, "start` from which every small turn can be reached"),
        (UnusedLayerHead, "'unused.weight' has none"),
        (UnknownEntryHead, r"\['depth_map'\] are not in"),
        (RandomHead, "same result twice"),
        (SecretReaderHead, "`reads_shapes`, since its poses depend"),
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
