"""Pose heads: feature pyramids to cameras."""

from kpose.heads.base import PoseHead
from kpose.heads.keypoint import KeypointHead, KeypointPrediction
from kpose.heads.paper import BorderTarget, LabelBorder, MaskBorder, PaperKeypointHead
from kpose.heads.rotation import (
    GramSchmidtHead,
    ProcrustesHead,
    QuaternionHead,
    RotationHead,
    RotationPrediction,
)
from kpose.heads.self_supervision import SelfSupervision
from kpose.heads.solver import KeypointSolver

__all__ = [
    "BorderTarget",
    "GramSchmidtHead",
    "KeypointHead",
    "KeypointPrediction",
    "KeypointSolver",
    "LabelBorder",
    "MaskBorder",
    "PaperKeypointHead",
    "PoseHead",
    "ProcrustesHead",
    "QuaternionHead",
    "RotationHead",
    "RotationPrediction",
    "SelfSupervision",
]
