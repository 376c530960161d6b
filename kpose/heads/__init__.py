"""Pose heads: feature pyramids to cameras."""

from kpose.heads.base import PoseHead
from kpose.heads.keypoint import KeypointHead, KeypointPrediction
from kpose.heads.rotation import (
    GramSchmidtHead,
    ProcrustesHead,
    QuaternionHead,
    RotationHead,
    RotationPrediction,
)
from kpose.heads.smooth import SmoothNetwork

__all__ = [
    "GramSchmidtHead",
    "KeypointHead",
    "KeypointPrediction",
    "PoseHead",
    "ProcrustesHead",
    "QuaternionHead",
    "RotationHead",
    "RotationPrediction",
    "SmoothNetwork",
]
