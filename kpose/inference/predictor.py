"""From photos to predictions."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from PIL import Image
from torch import Tensor, nn

from kpose._checkpoint import CONFIG_FILE, WEIGHTS_FILE
from kpose._files import SHIPPED_WEIGHTS, model_source
from kpose._limits import check_side
from kpose._precision import fast_autocast
from kpose.geometry import box_to_crop, uncrop_camera, undo_crop
from kpose.heads import KeypointPrediction
from kpose.inference.calibration import CALIBRATION_WEIGHTS, Calibration, pose_signals
from kpose.inference.model_card import MODEL_CARD, trust_argument
from kpose.inference.photo import Box, Entry, Picture, cut_square, load_mask, load_photo, pair_up, photo_square
from kpose.inference.prediction import Prediction
from kpose.inference.segmentation import MaskSegmenter, Segmenter, automatic_segmenter, find_objects
from kpose.inference.segmentation.network import SEGMENTER_CONFIG, SEGMENTER_WEIGHTS
from kpose.network import PoseNetwork
from kpose.structures import Crop, Mesh, PosePrediction, Shape

__all__ = ["Predictor", "load", "shipped_networks"]

logger = logging.getLogger(__name__)

_PHOTOS_AT_ONCE = 8  # that are in memory and that the segmenter sees together

_FILES = (CONFIG_FILE, WEIGHTS_FILE, SEGMENTER_CONFIG, SEGMENTER_WEIGHTS, CALIBRATION_WEIGHTS)
# Arguments of a predictor, beside its network.
OPTIONS = {"image_size", "device", "segmenter", "batch_size", "texture_size", "calibration"}


class _Frame(NamedTuple):
    """Where in a photo a crop lies, as a `Prediction` has it."""

    square: tuple[float, float, float, float]
    box: tuple[float, ...] | None
    located_by: str
    size: tuple[int, int]
    source: Picture
    given_mask: Picture | None
    texture_size: int | None


class Predictor(ModelHubMixin, library_name="kpose", model_card_template=MODEL_CARD):
    """Predict camera, shape and appearance of the object in photos.

    A call changes nothing in the predictor: several threads may share one. Huggingface_hub's mixin reaches the
    Hub: ``save_pretrained(folder)`` writes weights, templates and a description, ``push_to_hub(repository)``
    uploads them, and `from_pretrained` reads them again; their
    ``model_card_kwargs={"license": ..., "training_data": ...}``
    tells the model card what the predictor does not know.

    Args:
        network: Trained `PoseNetwork`, or a task that holds one as ``network``; it is moved to the device and put
            into evaluation.
        image_size: Side of the crops that it was trained on, in pixels; what the network remembers when None.
        device: Where the network runs.
        segmenter: What finds the object in a photo that comes without box and mask; that of
            `automatic_segmenter` for the network's category, birds where it knows none, if ``automatic``. With None
            the whole frame is taken. A `MaskSegmenter` is saved and loaded with the network.
        batch_size: How many photos the network sees at a time.
        texture_size: Width in texels, twice the height, of the texture that a mesh takes from its photo where the
            network predicts none; as fine as the photo, up to 1,024, when None.
        calibration: What tells how sure poses are; it is saved and loaded with the network that it was fitted on.

    Attributes:
        network: The network.

    Raises:
        TypeError: If there is no `PoseNetwork`.
        ValueError: If a size is not positive, the backbone cannot do the image size, or the network remembers none.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> from kpose.heads import QuaternionHead
        >>> predictor = Predictor(PoseNetwork(TinyBackbone(width=8), QuaternionHead), image_size=64)
        >>> [prediction] = predictor(torch.rand(3, 90, 120), box=(10, 10, 70, 60))
        >>> prediction.camera.rotation.shape
        torch.Size([3, 3])
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        image_size: int | None = None,
        device: str | torch.device = "cpu",
        segmenter: Segmenter | Literal["automatic"] | None = "automatic",
        batch_size: int = 32,
        texture_size: int | None = None,
        calibration: Calibration | None = None,
    ) -> None:
        found = network if isinstance(network, PoseNetwork) else getattr(network, "network", None)
        if not isinstance(found, PoseNetwork):
            raise TypeError(f"Predictor needs a PoseNetwork or a task with one; got {type(network).__name__}.")
        image_size = found.image_size if image_size is None else image_size
        if image_size is None:
            raise ValueError("Predictor needs the image_size of training; its network does not know it. Give it.")
        check_side(image_size, "Predictor")
        if texture_size is not None:
            check_side(texture_size, "Predictor", "texture_size")
        if batch_size < 1:
            raise ValueError(f"Predictor needs a positive batch_size; got {batch_size}.")
        found.backbone.check_size(image_size, image_size)
        self.network = found.to(device).eval()
        self.image_size = image_size
        self.device = torch.device(device)
        if segmenter == "automatic":
            category = "bird" if self.network.domain is None else self.network.domain.category
            segmenter = automatic_segmenter(category, device=device)
        self.segmenter = segmenter
        self.batch_size = batch_size
        self.texture_size = texture_size
        self.calibration = calibration

    @classmethod
    def from_checkpoint(
        cls,
        path: str | PathLike[str],
        *,
        trusted_modules: Sequence[str] = (),
        **options: Any,  # noqa: ANN401
    ) -> "Predictor":
        """Load a checkpoint of ``kpose fit``, of a trainer in Python or of a pipeline.

        The file holds all that prediction needs: templates, folders and models that training read may be gone. It
        is read as tensors and plain values, and the classes that it names are imported, from kpose only unless
        other modules are trusted.

        Args:
            path: Checkpoint.
            trusted_modules: Modules and packages beside kpose whose classes the checkpoint may name: importing them
                runs their code.
            options: Further arguments of `Predictor`, such as ``device``.

        Returns:
            Predictor.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is no checkpoint of a `PoseEstimator`, names classes that are not trusted, or does not
                know its image size; one line says which.
        """
        return cls(PoseNetwork.from_checkpoint(path, trusted_modules=trusted_modules), **options)

    @classmethod
    def from_pretrained(  # the mixin's own would take arguments from the file as well
        cls,
        pretrained_model_name_or_path: str | PathLike[str],
        *,
        trusted_modules: Sequence[str] = (),
        **options: Any,  # noqa: ANN401
    ) -> "Predictor":
        """Load a folder that ``save_pretrained`` has written, or a repository of the Hugging Face Hub.

        Args:
            pretrained_model_name_or_path: Folder, or ``owner/name`` of the repository.
            trusted_modules: Modules and packages beside kpose whose classes the description may name.
            options: Further arguments of `Predictor`, such as ``device``; all others are those of
                ``huggingface_hub.snapshot_download``, such as ``revision``, ``token`` and ``cache_dir``.

        Returns:
            Predictor.

        Raises:
            FileNotFoundError: If there is no such folder, or a file of it is missing.
            ValueError: If a file is damaged, names classes that are not trusted, or does not know the image size;
                one line says which.
        """
        own = {name: options.pop(name) for name in OPTIONS & options.keys()}
        folder = model_source(pretrained_model_name_or_path)
        if not Path(folder).is_dir():
            folder = snapshot_download(folder, allow_patterns=[*_FILES], **options)
        network = PoseNetwork.load(folder, trusted_modules=trusted_modules)
        if own.get("segmenter", "automatic") == "automatic" and (Path(folder) / SEGMENTER_CONFIG).is_file():
            own["segmenter"] = MaskSegmenter.load(folder)
            own["segmenter"].network.to(own.get("device", "cpu"))
        if (Path(folder) / CALIBRATION_WEIGHTS).is_file():
            own.setdefault("calibration", Calibration.load(folder))
        return cls(network, **own)

    @classmethod
    def pretrained(cls, name: str = "bird", **options: Any) -> "Predictor":  # noqa: ANN401
        """Load a network that comes with kpose; nothing is downloaded.

        Args:
            name: ``bird``, learned without pose labels, or ``bird-sfm``, learned from camera labels.
            options: Further arguments of `Predictor`, such as ``device``.

        Returns:
            Predictor, with the segmenter of its category that comes with kpose.

        Raises:
            ValueError: If kpose has no network of this name.
        """
        if name not in shipped_networks():
            raise ValueError(f"kpose comes with the networks {shipped_networks()}; got {name!r}. Name one of them.")
        return cls.from_pretrained(SHIPPED_WEIGHTS / name, **options)

    def __repr__(self) -> str:
        """Return a line on what predicts and where."""
        head, segmenter = (type(part).__name__ for part in (self.network.head, self.segmenter))
        size, device = self.image_size, str(self.device)
        return f"Predictor({head}, crops of {size} pixels, segmenter={segmenter}, device={device!r})"

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:  # noqa: ANN401 - as the mixin has it
        """Describe the predictor, for the mixin; see there."""
        known = {"image_size": self.image_size, "head": type(self.network.head).__name__}
        known["trust"] = trust_argument(self.network)
        if self.network.domain is not None:
            known["training_data"] = str(self.network.domain)
        card: ModelCard = super().generate_model_card(*args, **{**known, **kwargs})
        if license_name := kwargs.get("license"):
            card.data["license"] = license_name
        return card

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write a folder, for the mixin."""
        self.network.image_size = self.image_size
        self.network.save(save_directory)
        if isinstance(self.segmenter, MaskSegmenter):
            self.segmenter.save(save_directory)
        (save_directory / CALIBRATION_WEIGHTS).unlink(missing_ok=True)  # that of an earlier network
        if self.calibration is not None:
            self.calibration.save(save_directory)

    def __call__(
        self,
        images: Picture | Iterable[Picture],
        box: Box | Sequence[Box | None] | None = None,
        mask: Picture | Sequence[Picture | None] | None = None,
    ) -> list[Prediction]:
        """Predict the pose in photos.

        The crop is the square around a box, or around the pixels of a mask, with the padding of training. With
        neither, the segmenter looks for the object; where it finds none, or there is no segmenter, the crop is the
        whole frame, and the prediction's ``located_by`` says so.

        Args:
            images: One photo or several: files, Pillow's pictures, RGB tensors ``(3, H, W)`` in [0, 1], or RGB
                arrays ``(H, W, 3)`` from 0 to 255.
            box: ``(left, top, right, bottom)`` in pixels of the upright photo; several for several photos.
            mask: Mask of the photo's size; several for several photos.

        Returns:
            One prediction for each photo.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a photo, box or mask cannot be used, or their numbers differ.
        """
        entries = pair_up(images, box, mask)
        found: list[Prediction] = []
        for start in range(0, len(entries), self.batch_size):
            batch, prepared = entries[start : start + self.batch_size], []
            for first in range(0, len(batch), _PHOTOS_AT_ONCE):
                prepared += self._prepare(batch[first : first + _PHOTOS_AT_ONCE])
            found += self._predict(prepared)
        return found

    def _prepare(self, entries: Sequence[Entry]) -> list[tuple[Tensor, _Frame]]:
        """Return the crops of photos, and where they lie."""
        if any(box is not None and mask is not None for _, box, mask in entries):
            raise ValueError("Predictor needs a box or a mask for a photo; got both. Leave one out.")
        photos = [load_photo(image) for image, _, _ in entries]
        unknown = [row for row, (_, box, mask) in enumerate(entries) if box is None and mask is None]
        found: dict[int, Box | None] = {}
        if unknown and self.segmenter is not None:
            boxes = find_objects([photos[row] for row in unknown], self.segmenter)
            found = dict(zip(unknown, boxes, strict=True))
        return [
            self._cut(photo, entry, found.get(row))
            for row, (photo, entry) in enumerate(zip(photos, entries, strict=True))
        ]

    def _cut(self, photo: Image.Image, entry: Entry, found: Box | None) -> tuple[Tensor, _Frame]:
        """Return the crop of a photo, and where it lies."""
        image, box, mask = entry
        size = photo.height, photo.width
        located_by = "frame" if box is None else "box"
        if mask is not None:
            box, located_by = load_mask(mask, size).getbbox(), "mask"
        elif found is not None:
            box, located_by = found, type(self.segmenter).__name__
        if box is None:
            name = image if isinstance(image, str | PathLike) else "a photo"
            logger.info("There is neither box nor mask for %s, and none was found: its whole frame is taken.", name)
        square = photo_square(size, box)
        given = None if box is None else tuple(float(number) for number in box)
        frame = _Frame(square, given, located_by, size, image, mask, self.texture_size)
        return cut_square(photo, square, self.image_size), frame

    @torch.no_grad()
    def _predict(self, prepared: Sequence[tuple[Tensor, _Frame]]) -> list[Prediction]:
        crops = torch.stack([crop for crop, _ in prepared]).to(self.device)
        with fast_autocast(self.network):
            features = self.network.backbone(crops)
            if self.network.reconstructor is None:
                vertices, shapes = self.network.shapes(features), None
            else:
                shapes = self.network.reconstruct(features)
                vertices = shapes.vertices
            poses = self.network.pose(features, vertices)
        meshes = self._meshes(vertices, shapes)
        found = [_photo(poses, row, meshes[row], frame) for row, (_, frame) in enumerate(prepared)]
        if self.calibration is None:
            return found
        certain = self.calibration(pose_signals(features, poses))
        scores = zip(certain.expected_error_deg.tolist(), certain.score.tolist(), strict=True)
        return [
            replace(one, expected_error_deg=error, score=score)
            for one, (error, score) in zip(found, scores, strict=True)
        ]

    def _meshes(self, vertices: Tensor, shapes: Shape | None) -> list[Mesh]:
        """Return the mesh of every crop, with its texture where one is predicted."""
        vertices, faces = vertices.float().cpu(), self.network.faces.cpu()
        uv, uv_faces = self.network.template.uv.float().cpu(), self.network.template.uv_faces.cpu()
        if shapes is None:
            return [Mesh(one, faces, uv, uv_faces) for one in vertices]
        textures = shapes.texture.float().cpu()
        return [Mesh(one, faces, uv, uv_faces, texture) for one, texture in zip(vertices, textures, strict=True)]


def _photo(pose: PosePrediction, row: int, mesh: Mesh, frame: _Frame) -> Prediction:
    """Take one row of a pose to the pixels of its photo."""
    crop = box_to_crop(torch.tensor(frame.square))
    camera = pose.camera.at(row).to("cpu", torch.float32)
    keypoints: dict[str, Any] = {}
    if isinstance(pose, KeypointPrediction):
        keypoints = {
            "valid": bool(pose.valid[row]),
            "pose_from": "keypoints" if pose.valid[row] else "none",
            "covariance": _in_pixels(pose.covariance[row].float().cpu(), crop),
            "keypoints": undo_crop(pose.keypoints[row].float().cpu(), crop),
            "confidence": pose.confidence[row].float().cpu(),
            "inliers": pose.inliers[row].cpu(),
            "heatmaps": pose.heatmaps[row].float().cpu(),
        }
    prediction = Prediction(
        camera=uncrop_camera(camera, crop),
        crop_camera=camera,
        crop=crop,
        mesh=mesh,
        **frame._asdict(),
        **keypoints,
    )
    return prediction if prediction.is_finite else replace(prediction, valid=False)


def _in_pixels(covariance: Tensor, crop: Crop) -> Tensor:
    """Take the covariance of a camera from a crop to the photo, whose pixels are a translation's unit there."""
    unit = torch.ones(6)
    unit[1:3] = 1 / crop.scale
    return unit[:, None] * covariance * unit


def shipped_networks() -> list[str]:
    """Return the names of the networks that come with kpose.

    Example:
        >>> shipped_networks()
        ['bird', 'bird-sfm']
    """
    return sorted(path.parent.name for path in SHIPPED_WEIGHTS.glob(f"*/{CONFIG_FILE}"))


def load(name: str | PathLike[str], **options: Any) -> Predictor:  # noqa: ANN401
    """Load a predictor: one that comes with kpose, a folder, or a repository of the Hugging Face Hub.

    Args:
        name: A name of `shipped_networks`, such as ``bird``, unless there is a folder of that name; a folder of
            `PoseNetwork.save` or `Predictor.save_pretrained`; or ``owner/name`` of a repository.
        options: Arguments of `Predictor.from_pretrained`, such as ``device``.

    Returns:
        Predictor.

    Example:
        >>> load("bird")
        Predictor(KeypointHead, crops of 192 pixels, segmenter=MaskSegmenter, device='cpu')
    """
    if isinstance(name, str) and name in shipped_networks() and not Path(name).is_dir():
        return Predictor.pretrained(name, **options)
    return Predictor.from_pretrained(name, **options)
