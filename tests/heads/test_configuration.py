"""The parts of a keypoint head are part of its recipe."""

from functools import partial

from kpose.backbones import TinyBackbone
from kpose.heads import KeypointSolver, LabelBorder, MaskBorder, PaperKeypointHead
from kpose.losses import HeatmapLoss, PositionLoss
from kpose.network import PoseNetwork


def rebuilt(**settings):
    """Build a head, describe it in plain values and build it from these."""
    head = partial(PaperKeypointHead, num_keypoints=8, width=8, **settings)
    network = PoseNetwork(TinyBackbone(width=8), head)
    return PoseNetwork.from_recipe(network.recipe(), network.state_dict()).head


def test_defaults():
    head = rebuilt()
    assert type(head.loss) is HeatmapLoss
    assert type(head.border) is MaskBorder


def test_every_part_is_recorded():
    head = rebuilt(
        loss=PositionLoss(divergence_weight=0.2), border=LabelBorder(pixels=2), solver=KeypointSolver(trusted=0.25)
    )
    assert isinstance(head.loss, PositionLoss)
    assert head.loss.divergence_weight == 0.2
    assert isinstance(head.border, LabelBorder)
    assert head.border.pixels == 2
    assert head.solver.trusted == 0.25


def test_parts_can_be_left_out():
    assert rebuilt(confidence_weight=0.0).confidence is None
