"""The parts of a keypoint head are named by class path, as on the command line and in checkpoints."""

import torch

from kpose.backbones import TinyBackbone
from kpose.blueprint import build_network, draw_blueprint
from kpose.heads import KeypointHead, LabelBorder, ProcrustesHead, QuaternionHead
from kpose.losses import HeatmapLoss, PositionLoss
from kpose.network import PoseNetwork

BACKBONE = {"class_path": "kpose.backbones.TinyBackbone", "init_args": {"width": 8}}
SMALL = {"num_keypoints": 8, "width": 8}


def rebuilt(**settings):
    """Build a head, describe it in plain values and build it from these."""
    head = {"class_path": "kpose.heads.KeypointHead", "init_args": {**SMALL, **settings}}
    network = PoseNetwork(TinyBackbone(width=8), lambda spec: KeypointHead(spec, **SMALL))
    return build_network(draw_blueprint(network, {"backbone": BACKBONE, "head": head})).head


def test_defaults():
    head = rebuilt()
    assert type(head.loss) is HeatmapLoss
    assert type(head.fallback) is ProcrustesHead
    assert head.border is None


def test_every_part_can_be_named():
    head = rebuilt(
        loss={"class_path": "kpose.losses.PositionLoss", "init_args": {"divergence_weight": 0.2}},
        border={"class_path": "kpose.heads.LabelBorder", "init_args": {"pixels": 2}},
        fallback={"class_path": "kpose.heads.QuaternionHead", "init_args": {"width": 16}},
        solver={"class_path": "kpose.heads.KeypointSolver", "init_args": {"trusted": 0.25}},
    )
    assert isinstance(head.loss, PositionLoss)
    assert head.loss.divergence_weight == 0.2
    assert isinstance(head.border, LabelBorder)
    assert isinstance(head.fallback, QuaternionHead)
    assert head.solver.trusted == 0.25
    assert torch.isfinite(head.fallback.output.weight).all()


def test_parts_can_be_left_out():
    head = rebuilt(fallback=None, confidence_weight=0.0)
    assert head.fallback is None
    assert head.confidence is None
