"""A prediction in plain values, for JSON files."""

import json
import math
import re
from typing import Any

from torch import Tensor

import kpose
from kpose.geometry import matrix_to_quaternion, to_blender, to_opencv, to_pytorch3d
from kpose.inference.prediction import Prediction
from kpose.structures import Camera

__all__ = ["json_text", "prediction_record"]


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction in plain values, as ``kpose predict`` writes it."""
    numbers = [*prediction.camera, *prediction.crop_camera]
    numbers += [part for part in (prediction.keypoints, prediction.confidence) if part is not None]
    if not all(bool(tensor.isfinite().all()) for tensor in numbers):
        raise ValueError("The predicted pose is not finite. Check the checkpoint: its training may have failed.")
    camera, size = prediction.camera, prediction.size
    pytorch3d = {name: value[0] for name, value in to_pytorch3d(camera, size)._asdict().items()}
    return {
        "kpose": kpose.__version__,
        "size": {"height": size[0], "width": size[1]},
        "box": None if prediction.box is None else list(prediction.box),
        "located_by": prediction.located_by,
        "square": list(prediction.square),
        "valid": prediction.valid,
        "pose_from": prediction.pose_from,
        "score": prediction.score,
        "expected_error_deg": prediction.expected_error_deg,
        "camera": {
            "pixels": _camera_record(camera),
            "crop": _camera_record(prediction.crop_camera),
            "opencv": _plain(to_opencv(camera, size)._asdict()),
            "pytorch3d": _plain(pytorch3d),
            "blender": _plain(to_blender(camera, size)._asdict()),
        },
        **_plain(
            {name: getattr(prediction, name) for name in ("covariance", "keypoints", "confidence", "inliers")}
        ),
    }


def json_text(record: dict[str, Any]) -> str:
    """Return a record as JSON in which the numbers of a point, or of a row of a matrix, share a line.

    Example:
        >>> json_text({"point": [1.0, 2.0]}).splitlines()[1]
        '  "point": [1.0, 2.0]'
    """
    text = json.dumps(record, indent=2, allow_nan=False)
    return re.sub(r"\[\n([^][{}\"]*)\]", lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def _camera_record(camera: Camera) -> dict[str, Any]:
    return _plain({**camera._asdict(), "quaternion": matrix_to_quaternion(camera.rotation)})


def _plain(tensors: dict[str, Tensor | None]) -> dict[str, Any]:
    return {name: None if tensor is None else _finite(tensor.tolist()) for name, tensor in tensors.items()}


def _finite(values: Any) -> Any:  # noqa: ANN401 - a number, or lists of numbers
    """Put None, JSON's null, in the place of what JSON has no number for: an object without extent is far away."""
    if isinstance(values, list):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
