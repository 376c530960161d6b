"""Finding the object in a picture: an interface, and what implements it."""

from kpose.inference.segmentation.saliency import SaliencySegmenter
from kpose.inference.segmentation.segmenter import Segment, Segmenter, find_box
from kpose.inference.segmentation.transformers import TransformersSegmenter

__all__ = ["SaliencySegmenter", "Segment", "Segmenter", "TransformersSegmenter", "find_box"]
