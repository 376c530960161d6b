"""Photos in, poses out."""

import logging
import pickle
import warnings
from argparse import ArgumentError
from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from kpose.geometry.camera import box_to_crop, uncrop_camera, undo_crop
from kpose.heads import KeypointPrediction
from kpose.inference.photo import Picture, cut_square, load_mask, load_photo, mask_box, photo_square
from kpose.inference.reconstruction import Reconstruction
from kpose.inference.segmentation import Segmenter, find_box
from kpose.structures import Camera, Crop, Mesh, PosePrediction
from kpose.tasks import PoseEstimator

__all__ = ["Predictor"]

logger = logging.getLogger(__name__)

# What Lightning, jsonargparse and the classes themselves raise while a task is built.
BUILD_ERRORS = (
    ArgumentError, ImportError, AttributeError, TypeError, LookupError, ValueError, RuntimeError, OSError,
)  # fmt: skip

Box = Sequence[int | float] | Tensor


class _Frame(NamedTuple):
    """Where in a photo a crop lies."""

    square: tuple[float, float, float, float]
    box: tuple[float, ...] | None
    located_by: str
    size: tuple[int, int]
    source: Picture


class Predictor:
    """Predict the pose of the object in photos with a trained task.

    Args:
        task: Trained task; it is moved to the device and put into evaluation.
        image_size: Side of the crops that it was trained on, in pixels.
        device: Where the network runs.
        segmenter: What finds the object in a photo that comes without box and mask; the whole frame is taken when
            None.
        batch_size: How many photos the network sees at a time.

    Raises:
        ValueError: If ``image_size`` or ``batch_size`` is not positive.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.heads import QuaternionHead
        >>> predictor = Predictor(PoseEstimator(TinyBackbone(width=8), QuaternionHead), image_size=64)
        >>> [prediction] = predictor(torch.rand(3, 90, 120), box=(10, 10, 70, 60))
        >>> prediction.camera.rotation.shape
        torch.Size([3, 3])
    """

    def __init__(
        self,
        task: PoseEstimator,
        *,
        image_size: int,
        device: str | torch.device = "cpu",
        segmenter: Segmenter | None = None,
        batch_size: int = 32,
    ) -> None:
        if image_size < 1 or batch_size < 1:
            raise ValueError(
                f"Predictor needs a positive image_size and batch_size; got {image_size} and {batch_size}."
            )
        self.task = task.to(device).eval()
        self.image_size = image_size
        self.device = torch.device(device)
        self.segmenter = segmenter
        self.batch_size = batch_size

    @classmethod
    def from_checkpoint(
        cls,
        path: str | PathLike[str],
        *,
        device: str | torch.device = "cpu",
        image_size: int | None = None,
        segmenter: Segmenter | None = None,
        batch_size: int = 32,
    ) -> "Predictor":
        """Load a checkpoint that ``kpose fit`` has written.

        The file is read with ``weights_only=True``: it holds tensors and plain values, and names the classes that
        it is made of, which are imported. A task that was built in Python names none; build it again, load it by
        ``PoseEstimator.load_from_checkpoint`` and give it to `Predictor`.

        Args:
            path: Checkpoint.
            device: Where the network runs.
            image_size: Side of the crops, in pixels; that of training, which the checkpoint knows, when not given.
            segmenter: What finds the object in a photo that comes without box and mask.
            batch_size: How many photos the network sees at a time.

        Returns:
            Predictor.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no checkpoint of a `PoseEstimator`, or does not know its classes or image size.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no checkpoint {path}. Train one by `kpose fit`.")
        contents = _read_checkpoint(path)
        image_size = contents.get("image_size") if image_size is None else image_size
        if image_size is None:
            raise ValueError(f"Predictor needs the image size that {path} was trained with; it has none. Give it.")
        if "_class_path" not in contents.get("hyper_parameters", {}):
            raise ValueError(
                f"Predictor needs the classes that {path} was made of; it was trained from Python, which does not "
                "save them. Use Predictor(PoseEstimator.load_from_checkpoint(path, backbone=..., head=...))."
            )
        del contents
        task = _build(path)
        return cls(task, image_size=image_size, device=device, segmenter=segmenter, batch_size=batch_size)

    def __call__(
        self,
        images: Picture | Iterable[Picture],
        box: Box | Sequence[Box | None] | None = None,
        mask: Picture | Sequence[Picture | None] | None = None,
    ) -> list[Reconstruction]:
        """Predict the pose in photos.

        The crop is the square around a box, or around the pixels of a mask, with the padding of training. With
        neither, the segmenter looks for the object; where it finds none, or there is no segmenter, the crop is the
        whole frame, and the reconstruction's ``located_by`` says so.

        Args:
            images: One photo or several: files, Pillow's pictures or RGB tensors ``(3, H, W)`` in [0, 1].
            box: ``(left, top, right, bottom)`` in pixels of the upright photo; several for several photos.
            mask: Mask of the photo's size; several for several photos.

        Returns:
            One prediction for each photo.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a photo, box or mask cannot be used, or their numbers differ.
        """
        entries = _entries(images, box, mask)
        found: list[Reconstruction] = []
        for start in range(0, len(entries), self.batch_size):
            found += self._predict([self._prepare(*entry) for entry in entries[start : start + self.batch_size]])
        return found

    def _prepare(self, image: Picture, box: Box | None, mask: Picture | None) -> tuple[Tensor, _Frame]:
        """Give the crop of a photo, and where it lies."""
        if box is not None and mask is not None:
            raise ValueError("Predictor needs a box or a mask for a photo; got both. Leave one out.")
        photo = load_photo(image)
        size = photo.height, photo.width
        located_by = "frame" if box is None else "box"
        if mask is not None:
            box, located_by = mask_box(load_mask(mask, size)), "mask"
        elif box is None and self.segmenter is not None:
            box = find_box(photo, self.segmenter)
            located_by = "frame" if box is None else type(self.segmenter).__name__
        if box is None:
            name = image if isinstance(image, str | PathLike) else "a photo"
            logger.info("There is neither box nor mask for %s, and none was found: its whole frame is taken.", name)
        square = photo_square(size, box)
        given = None if box is None else tuple(float(number) for number in box)
        return cut_square(photo, square, self.image_size), _Frame(square, given, located_by, size, image)

    @torch.no_grad()
    def _predict(self, prepared: Sequence[tuple[Tensor, _Frame]]) -> list[Reconstruction]:
        crops = torch.stack([crop for crop, _ in prepared]).to(self.device)
        network = self.task.network
        features = network.backbone(crops)
        vertices = network.shapes(features)
        prediction = network.pose(features, vertices)
        return [self._photo(prediction, vertices[row], row, frame) for row, (_, frame) in enumerate(prepared)]

    def _photo(self, prediction: PosePrediction, vertices: Tensor, row: int, frame: _Frame) -> Reconstruction:
        """Take one row of a prediction to the pixels of its photo."""
        crop = box_to_crop(torch.tensor(frame.square))
        camera = Camera(*(part[row].float().cpu() for part in prediction.camera))
        valid = True
        keypoints = confidence = inliers = covariance = heatmaps = None
        if isinstance(prediction, KeypointPrediction):
            valid = bool(prediction.valid[row])
            keypoints = undo_crop(prediction.keypoints[row].float().cpu(), crop)
            confidence, inliers = prediction.confidence[row].float().cpu(), prediction.inliers[row].cpu()
            covariance = _in_pixels(prediction.covariance[row].float().cpu(), crop)
            heatmaps = prediction.heatmaps[row].float().cpu()
        return Reconstruction(
            camera=uncrop_camera(camera, crop),
            crop_camera=camera,
            crop=crop,
            square=frame.square,
            box=frame.box,
            located_by=frame.located_by,
            size=frame.size,
            source=frame.source,
            mesh=Mesh(vertices.float().cpu(), self.task.network.faces.cpu()),
            valid=valid,
            covariance=covariance,
            keypoints=keypoints,
            confidence=confidence,
            inliers=inliers,
            heatmaps=heatmaps,
        )


def _in_pixels(covariance: Tensor, crop: Crop) -> Tensor:
    """Take the covariance of a camera from a crop to the photo, whose pixels are a translation's unit there."""
    unit = torch.ones(6)
    unit[1:3] = 1 / crop.scale
    return unit[:, None] * covariance * unit


def _build(path: Path) -> PoseEstimator:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of what Lightning calls in jsonargparse
            return PoseEstimator.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    except BUILD_ERRORS as error:
        reason = " ".join(str(_root(error)).split())[:300]
        raise ValueError(
            f"{path} cannot be built again ({reason}). Its classes, and the folder of its backbone, must be where "
            "they were in training."
        ) from error


def _root(error: BaseException) -> BaseException:
    """Give the exception that the others were raised over."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return error


def _entries(images: Any, box: Any, mask: Any) -> list[tuple[Any, Any, Any]]:  # noqa: ANN401
    """Bring photos, boxes and masks together, one entry for each photo."""
    if _is_picture(images):
        return [(images, box, mask)]
    photos = list(images)
    if _is_box(box) or _is_picture(mask):
        raise ValueError(
            f"Predictor needs a box or mask for each of {len(photos)} photos; got a single one. Give as many."
        )
    boxes = [None] * len(photos) if box is None else list(box)
    masks = [None] * len(photos) if mask is None else list(mask)
    if not len(photos) == len(boxes) == len(masks):
        raise ValueError(
            f"Predictor needs a box or mask for each of {len(photos)} photos; got {len(boxes)} boxes and "
            f"{len(masks)} masks. Give None where there is none."
        )
    return list(zip(photos, boxes, masks, strict=True))


def _is_picture(value: object) -> bool:
    return isinstance(value, str | PathLike | Image.Image) or (isinstance(value, Tensor) and value.ndim < 4)


def _is_box(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, Tensor):
        return value.ndim < 2
    return isinstance(value, Sequence) and len(value) > 0 and isinstance(value[0], int | float)


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no checkpoint that can be read safely ({reason}). Train it anew.") from error
    if not isinstance(contents, dict) or "state_dict" not in contents:
        raise ValueError(f"{path} is no checkpoint of a training run. Give a file that `kpose fit` has written.")
    return contents
