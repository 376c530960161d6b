"""A prediction in plain values, for JSON files."""

import json
import re
from typing import Any

from torch import Tensor

import kpose
from kpose.geometry import matrix_to_quaternion, to_blender, to_opencv, to_pytorch3d
from kpose.inference.prediction import Prediction
from kpose.structures import Camera

__all__ = ["camera_record", "json_text", "prediction_record"]


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    """Describe a prediction in plain values, as ``kpose predict`` writes it.

    Args:
        prediction: What a photo gave.

    Returns:
        What `json.dumps` takes: version, size of the photo, the box that was used and where it comes from, the
        square that was cut out, whether the camera is valid and what it comes from, the camera of the photo and of
        the crop, that of the photo for other libraries, its covariance, and keypoints with confidence and inliers;
        None for what the head does not give.

    Raises:
        ValueError: If the camera or a keypoint is not finite.
    """
    numbers = [*prediction.camera, *prediction.crop_camera]
    if prediction.keypoints is not None and prediction.confidence is not None:
        numbers += [prediction.keypoints, prediction.confidence]
    if not all(bool(tensor.isfinite().all()) for tensor in numbers):
        raise ValueError("The predicted pose is not finite. Check the checkpoint: its training may have failed.")
    return {
        "kpose": kpose.__version__,
        "size": {"height": prediction.size[0], "width": prediction.size[1]},
        "box": None if prediction.box is None else list(prediction.box),
        "located_by": prediction.located_by,
        "square": list(prediction.square),
        "valid": prediction.valid,
        "pose_from": prediction.pose_from,
        "camera": {
            "pixels": camera_record(prediction.camera),
            "crop": camera_record(prediction.crop_camera),
            **_interchange(prediction.camera, prediction.size),
        },
        "covariance": _plain(prediction.covariance),
        "keypoints": _plain(prediction.keypoints),
        "confidence": _plain(prediction.confidence),
        "inliers": _plain(prediction.inliers),
    }


def camera_record(camera: Camera) -> dict[str, Any]:
    """Describe one camera in plain values.

    Args:
        camera: Camera without leading dimensions.

    Returns:
        Scale, translation, rotation matrix by rows, and quaternion ``w, x, y, z``.

    Example:
        >>> import torch
        >>> camera_record(Camera(torch.tensor(2.0), torch.zeros(2), torch.eye(3)))["quaternion"]
        [1.0, 0.0, 0.0, 0.0]
    """
    return {
        "scale": camera.scale.item(),
        "translation": _plain(camera.translation),
        "rotation": _plain(camera.rotation),
        "quaternion": _plain(matrix_to_quaternion(camera.rotation)),
    }


def json_text(record: dict[str, Any]) -> str:
    """Write a record as JSON in which the numbers of a point, or of a row of a matrix, share a line.

    Args:
        record: Plain values.

    Returns:
        Text that ends in a line break.

    Raises:
        ValueError: If a number is not finite.

    Example:
        >>> json_text({"point": [1.0, 2.0]}).splitlines()[1]
        '  "point": [1.0, 2.0]'
    """
    text = json.dumps(record, indent=2, allow_nan=False)
    return re.sub(r"\[\n([^][{}\"]*)\]", lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def _interchange(camera: Camera, size: tuple[int, int]) -> dict[str, Any]:
    pytorch3d = {name: value[0] for name, value in to_pytorch3d(camera, size)._asdict().items()}
    cameras = {
        "opencv": to_opencv(camera, size)._asdict(),
        "pytorch3d": pytorch3d,
        "blender": to_blender(camera, size)._asdict(),
    }
    return {library: {name: _plain(value) for name, value in part.items()} for library, part in cameras.items()}


def _plain(tensor: Tensor | None) -> Any:  # noqa: ANN401
    return None if tensor is None else tensor.tolist()
