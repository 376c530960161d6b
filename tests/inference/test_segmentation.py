"""Segmenters find the object of a picture, and the predictor crops what they find."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from kpose.inference import Predictor
from kpose.inference.segmentation import Segment, Segmenter, find_box
from kpose.visualization import to_pillow


class Bright(Segmenter):
    """Finds what is bright, if anything is."""

    def segment(self, image: Tensor) -> list[Segment]:
        mask = image.mean(0)
        return [Segment(mask, 1.0)] if (mask > 0.5).any() else []


class Nowhere(Segmenter):
    """Gives a segment without a pixel, then one with some."""

    def segment(self, image: Tensor) -> list[Segment]:
        empty = torch.zeros(image.shape[1:])
        full = empty.clone()
        full[2:4, 5:9] = 1
        return [Segment(empty, 0.9), Segment(full, 0.8)]


def scene(height: int = 90, width: int = 120, *, bright: bool = True) -> Tensor:
    """Give a dark picture with a bright rectangle."""
    picture = torch.full((3, height, width), 0.1)
    if bright:
        picture[:, height // 3 : 2 * height // 3, width // 4 : width // 2] = 0.9
    return picture


def test_boxes_are_in_pixels_of_large_photos_too() -> None:
    assert find_box(to_pillow(scene()), Bright()) == (30, 30, 60, 60)
    found = find_box(to_pillow(scene(900, 2400)), Bright())
    assert found == pytest.approx((600, 300, 1200, 600), abs=6)


def test_a_segment_without_a_pixel_is_passed_over() -> None:
    assert find_box(to_pillow(scene()), Nowhere()) == (5, 2, 9, 4)
    assert find_box(to_pillow(scene(bright=False)), Bright()) is None


def test_the_predictor_says_what_located_the_object(checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints["quaternion"], segmenter=Bright())
    mask = torch.zeros(90, 120)
    mask[10:40, 20:70] = 1
    photos = [scene(), scene(bright=False), scene(), scene()]
    found = predictor(photos, box=[None, None, (1, 2, 50, 60), None], mask=[None, None, None, mask])
    assert [one.located_by for one in found] == ["Bright", "frame", "box", "mask"]
    assert [one.box for one in found] == [(30, 30, 60, 60), None, (1, 2, 50, 60), (20, 10, 70, 40)]
    [whole] = Predictor.from_checkpoint(checkpoints["quaternion"], segmenter=None)(scene())
    assert whole.located_by == "frame"
    assert whole.square == (0, -15, 120, 105)
