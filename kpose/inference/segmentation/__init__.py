"""Finding the object in a picture: an interface, and what implements it."""

from kpose.inference.segmentation.automatic import automatic_segmenter
from kpose.inference.segmentation.network import MaskNetwork, MaskSegmenter
from kpose.inference.segmentation.segmenter import Segment, Segmenter, find_masks, find_objects
from kpose.inference.segmentation.transformers import TransformersSegmenter

__all__ = [
    "MaskNetwork",
    "MaskSegmenter",
    "Segment",
    "Segmenter",
    "TransformersSegmenter",
    "automatic_segmenter",
    "find_masks",
    "find_objects",
]
