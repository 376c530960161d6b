"""Losses: functions of predictions and targets, lower is better."""

from kpose.losses.appearance import AppearanceDistance, FeatureDistance, LPIPSDistance, PixelDistance
from kpose.losses.heatmap import DivergenceLoss, HeatmapLoss, PositionLoss
from kpose.losses.pose import chordal_distance, quaternion_distance
from kpose.losses.regularization import GraphLaplacianLoss, deformation_loss
from kpose.losses.silhouette import distance_transform, silhouette_loss

__all__ = [
    "AppearanceDistance",
    "DivergenceLoss",
    "FeatureDistance",
    "GraphLaplacianLoss",
    "HeatmapLoss",
    "LPIPSDistance",
    "PixelDistance",
    "PositionLoss",
    "chordal_distance",
    "deformation_loss",
    "distance_transform",
    "quaternion_distance",
    "silhouette_loss",
]
