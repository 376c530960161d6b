"""Backbones: images to feature pyramids."""

from kpose.backbones.base import Backbone
from kpose.backbones.efficientnet_lite import EfficientNetLite
from kpose.backbones.tiny import TinyBackbone
from kpose.backbones.transformers import TransformersBackbone

__all__ = ["Backbone", "EfficientNetLite", "TinyBackbone", "TransformersBackbone"]
