"""Losses: functions of predictions and targets, lower is better."""

from kpose.losses.heatmap import heatmap_loss
from kpose.losses.pose import chordal_distance, quaternion_distance

__all__ = ["chordal_distance", "heatmap_loss", "quaternion_distance"]
