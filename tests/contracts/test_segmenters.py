"""The contract of segmenters, for all of ours; the models of transformers are tiny."""

from pathlib import Path
from typing import Any

import pytest
import torch
from inference.segmentation.conftest import bird_scene, scene, semantic, universal  # noqa: F401 - two are fixtures

from kpose.inference.segmentation import (
    MaskSegmenter,
    Segment,
    Segmenter,
    TransformersSegmenter,
    automatic_segmenter,
)
from kpose.testing import check_segmenter


def test_masks() -> None:
    segmenter = automatic_segmenter()
    assert isinstance(segmenter, MaskSegmenter)
    check_segmenter(segmenter, [bird_scene(place=(60, 45)), bird_scene(place=(60, 40))])


def test_semantic_models_of_transformers(semantic: Path) -> None:  # noqa: F811
    check_segmenter(TransformersSegmenter(semantic))


def test_universal_models_of_transformers(universal: Path) -> None:  # noqa: F811
    check_segmenter(TransformersSegmenter(universal, threshold=0.0), [scene()])


class Bright(Segmenter):
    """Finds what is bright and, doubtfully, all else."""

    def segment(self, image: torch.Tensor) -> list[Segment]:
        mask = (image.mean(0) > 0.5).float()
        return [Segment(mask, 0.9), Segment(1 - mask, 0.1)]


class Backwards(Bright):
    def segment(self, image: torch.Tensor) -> list[Segment]:
        return super().segment(image)[::-1]


class Small(Bright):
    def segment(self, image: torch.Tensor) -> list[Segment]:
        return super().segment(image[:, ::2, ::2])


class Writes(Bright):
    def segment(self, image: torch.Tensor) -> list[Segment]:
        return super().segment(image.sub_(0.1))


class Remembers(Bright):
    last = 0.0

    def segment(self, image: torch.Tensor) -> list[Segment]:
        found, self.last = super().segment(image - self.last), float(image[0, 0, 0])
        return found


class Blind(Bright):
    def segment(self, image: torch.Tensor) -> list[Segment]:
        return []


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (Backwards, "the likeliest object first"),
        (Small, "masks of the picture's size"),
        (Writes, "to leave the picture as it is"),
        (Remembers, "the same objects of the same picture"),
        (Blind, "to find an object in every picture"),
    ],
)
def test_broken_segmenters_are_found_out(kind: Any, rule: str) -> None:
    check_segmenter(Bright(), [scene()])
    with pytest.raises(AssertionError, match=rule):
        check_segmenter(kind(), [scene()])
