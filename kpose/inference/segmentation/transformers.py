"""Segmentation models of the transformers library."""

from os import PathLike, fspath
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from torch import Tensor
from torch.nn.functional import interpolate

from kpose._files import model_source
from kpose.geometry import mask_iou
from kpose.geometry._mask import connected_regions
from kpose.inference.segmentation.segmenter import Segment, Segmenter
from kpose.visualization import to_pillow

__all__ = ["TransformersSegmenter"]


class TransformersSegmenter(Segmenter):
    """Find the objects of one label with any semantic, instance or universal segmentation model of transformers.

    Models that predict masks one by one (Mask2Former, MaskFormer, EoMT, DETR, ...) tell objects of a label apart;
    semantic ones (SegFormer, BEiT, UperNet, ...) give one object for each connected region.

    Args:
        name: Name of a model on the Hugging Face hub, or a local folder with configuration, weights and image
            processor.
        label: What to look for, as the model names it.
        device: Where the model runs.
        threshold: Least score of an object, in [0, 1].

    Raises:
        ValueError: If transformers knows no segmentation model of this kind, its weights are damaged, or it has no
            such label.
        OSError: If the model is neither a folder nor known to the hub (or there is no network).

    Example:
        A predictor of cars, once the model is in the cache of the hub or in a folder::

            segmenter = TransformersSegmenter("facebook/mask2former-swin-small-coco-instance", label="car")
            predictor = kpose.Predictor.from_checkpoint("car_poses/keypoint.ckpt", segmenter=segmenter)
    """

    def __init__(
        self,
        name: str | PathLike[str],
        *,
        label: str = "bird",
        device: str | torch.device = "cpu",
        threshold: float = 0.5,
    ) -> None:
        self.model, self.processor = _load(fspath(name))
        labels: dict[int, str] = self.model.config.id2label
        self.classes = [number for number, names in labels.items() if label in map(str.strip, names.split(","))]
        if not self.classes:
            known = ", ".join(sorted(labels.values()))
            raise ValueError(
                f"TransformersSegmenter needs a model with the label {label!r}; {name} has {known[:300]}. Name one "
                "of these."
            )
        self.device = torch.device(device)
        self.model.to(self.device).eval()
        self.threshold = threshold

    @torch.no_grad()
    def segment(self, image: Float[Tensor, "3 H W"]) -> list[Segment]:
        """Find the objects of the label; of two on the same pixels the likelier. See `Segmenter.segment`."""
        inputs = self.processor(to_pillow(image), do_center_crop=False, return_tensors="pt").to(self.device)
        outputs = self.model(pixel_values=inputs["pixel_values"])
        queries = _first(outputs, "masks_queries_logits", "pred_masks")
        if queries is None:
            share = _enlarge(outputs.logits, inputs, image)[0].softmax(0)[self.classes].sum(0)
            masks, scores = regions(share)
        else:
            classes = _first(outputs, "class_queries_logits", "logits")
            assert classes is not None
            scores = classes[0].softmax(-1)[:, self.classes].amax(-1)
            likely = scores >= self.threshold
            if not likely.any():
                return []
            masks = _enlarge(queries[:, likely], inputs, image)[0].sigmoid()
            scores = scores[likely]
        scores = scores * _confidence(masks)
        order = [int(row) for row in scores.argsort(descending=True) if scores[row] >= self.threshold]
        kept: list[int] = []
        for row in order:
            if all(mask_iou(masks[row], masks[other], soft=False) < 0.5 for other in kept):
                kept.append(row)
        return [Segment(masks[row].float().cpu(), float(scores[row])) for row in kept]


def _load(name: str) -> tuple[Any, Any]:
    from transformers import AutoConfig, AutoImageProcessor
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING,
        MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
        MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING,
    )

    config = AutoConfig.from_pretrained(model_source(name))
    mappings = (
        MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING,
        MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING,
        MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING,
    )
    found: Any = next((mapping[type(config)] for mapping in mappings if type(config) in mapping), None)
    if found is None:
        raise ValueError(
            f"TransformersSegmenter needs a segmentation model; {name!r} is a {config.model_type!r}. Take a "
            "Mask2Former or a SegFormer, for example."
        )
    processor: Any = AutoImageProcessor
    try:
        model = found.from_pretrained(name, config=config)
    except SafetensorError as error:
        raise ValueError(
            f"TransformersSegmenter needs whole weights; those of {name} are damaged ({error}). Fetch them again."
        ) from error
    return model, processor.from_pretrained(name)


def _first(outputs: Any, *names: str) -> Tensor | None:  # noqa: ANN401
    return next((outputs[name] for name in names if outputs.get(name) is not None), None)


def _enlarge(maps: Tensor, inputs: Any, image: Tensor) -> Tensor:  # noqa: ANN401
    """Resize maps of what the model saw to the picture's size, without what was padded to it."""
    seen = inputs["pixel_values"].shape[-2:]
    maps = interpolate(maps.float(), seen, mode="bilinear", align_corners=False)
    if "pixel_mask" in inputs:
        real = inputs["pixel_mask"][0].bool()
        maps = maps[..., : int(real.any(1).sum()), : int(real.any(0).sum())]
    return interpolate(maps, image.shape[-2:], mode="bilinear", align_corners=False)


def regions(share: Tensor) -> tuple[Tensor, Tensor]:
    """Split a map into its connected regions above one half, each with a score of 1."""
    numbers = connected_regions(share > 0.5)
    regions = [numbers == number for number in range(1, int(numbers.max()) + 1)]
    # Specks of less than a thousandth of the picture are no objects.
    masks = [share * region for region in regions if region.sum() * 1000 > share.numel()]
    return torch.stack(masks) if masks else share[None][:0], share.new_ones(len(masks))


def _confidence(masks: Tensor) -> Tensor:
    """Compute the mean share within each mask."""
    inside = (masks > 0.5).to(masks)
    return (masks * inside).sum((-2, -1)) / inside.sum((-2, -1)).clamp_min(1)
