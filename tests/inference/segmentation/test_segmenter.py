from pathlib import Path

import pytest
import torch
from inference.segmentation.conftest import scene
from torch import Tensor

from kpose.inference import Predictor
from kpose.inference.segmentation import MaskSegmenter, Segment, Segmenter, find_masks, find_objects
from kpose.structures import Domain
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


def test_boxes_are_in_pixels_of_large_photos_too() -> None:
    small, large = find_objects([to_pillow(scene()), to_pillow(scene(900, 2400))], Bright())
    assert small == (30, 30, 60, 60)
    assert large == pytest.approx((600, 300, 1200, 600), abs=6)


def test_a_segment_without_a_pixel_is_passed_over() -> None:
    assert find_objects([to_pillow(scene())], Nowhere()) == [(5, 2, 9, 4)]
    assert find_objects([to_pillow(scene(bright=False)), to_pillow(scene())], Bright())[0] is None


def test_masks_have_the_size_of_large_photos_too() -> None:
    photos = [to_pillow(scene()), to_pillow(scene(bright=False)), to_pillow(scene(900, 2400))]
    small, nothing, large = find_masks(photos, Bright())
    assert nothing is None
    assert small is not None
    assert large is not None
    assert (small.size, large.size) == ((120, 90), (2400, 900))
    assert small.getbbox() == (30, 30, 60, 60)
    assert large.getbbox() == pytest.approx((600, 300, 1200, 600), abs=3)
    assert large.histogram()[1:255] == [0] * 254


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


def test_the_segmenter_of_birds_is_taken_where_none_is_named(checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints["quaternion"])
    assert isinstance(predictor.segmenter, MaskSegmenter)
    [found] = predictor(torch.full((3, 60, 80), 0.5))
    assert found.located_by == "frame"


def test_other_categories_have_none(checkpoints: dict[str, Path]) -> None:
    network = Predictor.from_checkpoint(checkpoints["quaternion"], segmenter=None).network
    network.domain = Domain("photographs of teapots", "teapot", "a folder of photographs")
    assert Predictor(network).segmenter is None
