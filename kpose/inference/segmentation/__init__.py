"""Finding the object in a picture: an interface, and what implements it."""

from kpose.inference.segmentation.segmenter import Segment, Segmenter, find_box

__all__ = ["Segment", "Segmenter", "find_box"]
