"""From photos to poses, with a trained checkpoint."""

from kpose.inference.photo import Picture, load_mask, load_photo, photo_square
from kpose.inference.predictor import Predictor, load
from kpose.inference.reconstruction import Reconstruction
from kpose.inference.sheet import prediction_sheet

__all__ = [
    "Picture",
    "Predictor",
    "Reconstruction",
    "load",
    "load_mask",
    "load_photo",
    "photo_square",
    "prediction_sheet",
]
