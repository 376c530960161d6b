"""Finding the object in a picture: an interface, and what implements it."""

from kpose.inference.segmentation.automatic import AutomaticSegmenter
from kpose.inference.segmentation.network import SEGMENTER_CONFIG, SEGMENTER_WEIGHTS, MaskNetwork, MaskSegmenter
from kpose.inference.segmentation.saliency import SaliencySegmenter
from kpose.inference.segmentation.segmenter import Segment, Segmenter, find_object
from kpose.inference.segmentation.transformers import TransformersSegmenter

__all__ = [
    "SEGMENTER_CONFIG",
    "SEGMENTER_WEIGHTS",
    "AutomaticSegmenter",
    "MaskNetwork",
    "MaskSegmenter",
    "SaliencySegmenter",
    "Segment",
    "Segmenter",
    "TransformersSegmenter",
    "find_object",
]
