"""From photos to poses, with a trained checkpoint."""

from kpose.inference.photo import Picture, load_mask, load_photo, photo_square
from kpose.inference.predictor import PhotoPrediction, Predictor

__all__ = ["PhotoPrediction", "Picture", "Predictor", "load_mask", "load_photo", "photo_square"]
