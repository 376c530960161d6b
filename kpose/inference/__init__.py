"""From photos to poses, with a trained checkpoint."""

from typing import TYPE_CHECKING, Any

from kpose.inference.calibration import Calibration, Certainty, fit_calibration
from kpose.inference.photo import Picture, load_mask, load_photo
from kpose.inference.prediction import Prediction
from kpose.inference.predictor import Predictor, load, shipped_networks
from kpose.inference.sheet import prediction_sheet

if TYPE_CHECKING:
    from kpose.inference.export import save_mesh, to_trimesh
    from kpose.inference.viewer import MeshViewer

__all__ = [
    "Calibration",
    "Certainty",
    "MeshViewer",
    "Picture",
    "Prediction",
    "Predictor",
    "fit_calibration",
    "load",
    "load_mask",
    "load_photo",
    "prediction_sheet",
    "save_mesh",
    "shipped_networks",
    "to_trimesh",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import what needs trimesh when it is asked for: predicting does without."""
    if name in ("save_mesh", "to_trimesh"):
        from kpose.inference import export

        return getattr(export, name)
    if name == "MeshViewer":
        from kpose.inference.viewer import MeshViewer

        return MeshViewer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
