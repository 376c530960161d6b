from pathlib import Path

import pytest
import torch
from inference.segmentation.conftest import scene

from kpose.inference.segmentation import Segment, TransformersSegmenter
from kpose.inference.segmentation.transformers import regions


def test_semantic_models_give_regions(semantic: Path) -> None:
    segmenter = TransformersSegmenter(semantic)
    with torch.no_grad():
        segmenter.model.decode_head.classifier.weight.zero_()
        segmenter.model.decode_head.classifier.bias.copy_(torch.tensor([0.0, 4.0, 0.0]))
    [segment] = segmenter.segment(scene())
    assert segment.box == (0, 0, 120, 90)
    assert segment.score > 0.9
    with torch.no_grad():
        segmenter.model.decode_head.classifier.bias.copy_(torch.tensor([4.0, 0.0, 0.0]))
    assert segmenter.segment(scene()) == []


def test_regions_of_a_map_are_objects_of_their_own() -> None:
    share = torch.full((40, 60), 0.1)
    share[5:15, 5:20] = 0.9
    share[20:35, 30:50] = 0.8
    share[38, 58] = 0.9  # a speck
    masks, scores = regions(share)
    assert sorted(Segment(mask, 1.0).box for mask in masks) == [(5, 5, 20, 15), (30, 20, 50, 35)]
    assert scores.tolist() == [1, 1]
    assert regions(torch.zeros(8, 8))[0].shape == (0, 8, 8)


def test_models_of_masks_give_objects_that_differ(universal: Path) -> None:
    segmenter = TransformersSegmenter(universal, threshold=0.0)
    found = segmenter.segment(scene())
    assert found
    scores = [segment.score for segment in found]
    assert scores == sorted(scores, reverse=True)
    for number, segment in enumerate(found):
        assert segment.mask.shape == (90, 120)
        for other in found[:number]:
            both = (segment.mask > 0.5) & (other.mask > 0.5)
            assert both.sum() <= 0.5 * ((segment.mask > 0.5) | (other.mask > 0.5)).sum()
    assert TransformersSegmenter(universal, threshold=0.999).segment(scene()) == []


def test_models_without_the_label_are_refused(semantic: Path) -> None:
    assert TransformersSegmenter(semantic, label="fowl").classes == [1]
    with pytest.raises(ValueError, match=r"needs a model with the label 'horse'; .* has bird, fowl, sky, tree"):
        TransformersSegmenter(semantic, label="horse")


def test_models_that_do_not_segment_are_refused(tmp_path: Path) -> None:
    from transformers import ResNetConfig

    ResNetConfig().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"needs a segmentation model; .* is a 'resnet'"):
        TransformersSegmenter(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^There is no folder .*nowhere\."):
        TransformersSegmenter(tmp_path / "nowhere")
