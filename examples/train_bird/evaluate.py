"""Measure the shipped network on whole photographs: what is found, and how right pose and silhouette are.

    python examples/train_bird/evaluate.py --root $KPOSE_CUB_ROOT --out figures.json

``found`` is photo in, no box; ``box`` is the same network in the annotated box. True cameras and masks are compared
with and never learned from.
"""

import json
from collections import defaultdict
from pathlib import Path

import torch
from jsonargparse import auto_cli
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

import kpose
from kpose._files import write_text
from kpose.data import CUBDataset
from kpose.geometry import mask_iou
from kpose.inference import Predictor
from kpose.inference.segmentation import Segmenter
from kpose.metrics import angular_error
from kpose.visualization import from_pillow


def main(root: Path, out: Path, network: str = "bird", split: str = "val", every: int = 1) -> None:
    """Predict the photographs of a split and write the figures.

    Args:
        root: Folder in CUB's layout, with cameras.
        out: File of the figures.
        network: What `kpose.load` takes.
        split: Whose photographs are predicted.
        every: Take every so many.
    """
    predictor = kpose.load(network)
    assert isinstance(predictor.segmenter, Segmenter)
    images = CUBDataset(root, split, image_size=predictor.image_size)
    values: dict[str, list[float]] = defaultdict(list)
    for item in tqdm(range(0, len(images), every), "photos", unit="photo"):
        row, file = images.rows[item], images.image_files[item]
        photo = Image.open(file).convert("RGB")
        name = file.relative_to(images.root / "images").with_suffix(".png")
        mask = from_pillow(Image.open(images.root / "segmentations" / name).convert("RGB"))[0] > 0.5
        box, camera = images.annotations.boxes[row], images.annotations.camera
        assert camera is not None
        segments = predictor.segmenter.segment(from_pillow(photo))
        found = segments[0].mask > 0.5 if segments else torch.zeros_like(mask)
        overlap = _box_iou(torch.tensor(segments[0].box or (0.0,) * 4), box) if segments else 0.0
        values["box_found"].append(overlap >= 0.5)
        iou = float(mask_iou(found.float(), mask.float()))
        values["mask_iou"].append(iou)
        if mask.float().mean() < 0.05:
            values["mask_iou_small"].append(iou)
        for kind, given in (("found", segments[0].box if segments else None), ("box", box.tolist())):
            _add(values, kind, predictor, photo, given, mask, camera.rotation[row])
    figures = {name: sum(each) / len(each) for name, each in values.items()}
    for kind in ("found", "box"):
        figures[f"{kind}_angle_deg_median"] = float(torch.tensor(values[f"{kind}_angle_deg"]).median())
    figures["photos"] = len(values["mask_iou"])
    write_text(out, json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def _add(
    values: dict[str, list[float]],
    kind: str,
    predictor: Predictor,
    photo: Image.Image,
    box: object,
    mask: Tensor,
    rotation: Tensor,
) -> None:
    """Predict one photo and add its scores."""
    whole = (0, 0, *photo.size)
    [prediction] = predictor(photo, box=whole if box is None else box)  # type: ignore[arg-type]
    values[f"{kind}_angle_deg"].append(float(angular_error(prediction.camera.rotation, rotation)))
    values[f"{kind}_iou"].append(float(mask_iou(prediction.mask, mask.float())))
    values[f"{kind}_valid"].append(prediction.valid)


def _box_iou(first: Tensor, second: Tensor) -> float:
    low, high = torch.maximum(first[:2], second[:2]), torch.minimum(first[2:], second[2:])
    inside = float((high - low).clamp_min(0).prod())
    areas = [float((box[2:] - box[:2]).prod()) for box in (first, second)]
    return inside / max(sum(areas) - inside, 1e-9)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
