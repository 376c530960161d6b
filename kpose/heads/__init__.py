"""Pose heads: feature pyramids to cameras."""

from kpose.heads.base import PoseHead
from kpose.heads.border import BorderNetwork, BorderTarget, LabelBorder, MaskBorder
from kpose.heads.confidence import PeakConfidence
from kpose.heads.fallback import KeypointSolver, PoseSource
from kpose.heads.keypoint import KeypointHead, KeypointPrediction
from kpose.heads.network import KeypointMaps, KeypointNetwork
from kpose.heads.rotation import (
    GramSchmidtHead,
    ProcrustesHead,
    QuaternionHead,
    RotationHead,
    RotationPrediction,
)
from kpose.heads.self_supervision import ProxyTargets, SelfSupervision, color_map, label_faces
from kpose.heads.smooth import SmoothNetwork

__all__ = [
    "BorderNetwork",
    "BorderTarget",
    "GramSchmidtHead",
    "KeypointHead",
    "KeypointMaps",
    "KeypointNetwork",
    "KeypointPrediction",
    "KeypointSolver",
    "LabelBorder",
    "MaskBorder",
    "PeakConfidence",
    "PoseHead",
    "PoseSource",
    "ProcrustesHead",
    "ProxyTargets",
    "QuaternionHead",
    "RotationHead",
    "RotationPrediction",
    "SelfSupervision",
    "SmoothNetwork",
    "color_map",
    "label_faces",
]
