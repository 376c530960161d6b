"""Losses: functions of predictions and targets, lower is better."""

from kpose.losses.heatmap import heatmap_loss
from kpose.losses.pose import chordal_distance, quaternion_distance
from kpose.losses.silhouette import distance_transform, silhouette_loss

__all__ = ["chordal_distance", "distance_transform", "heatmap_loss", "quaternion_distance", "silhouette_loss"]
