"""From photos to poses, with a trained checkpoint."""

from kpose.inference.photo import Picture, load_mask, load_photo, photo_square
from kpose.inference.prediction import Prediction
from kpose.inference.predictor import Predictor, load
from kpose.inference.sheet import prediction_sheet

__all__ = [
    "Picture",
    "Prediction",
    "Predictor",
    "load",
    "load_mask",
    "load_photo",
    "photo_square",
    "prediction_sheet",
]
