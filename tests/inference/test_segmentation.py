"""Segmenters find the object of a picture, and the predictor crops what they find."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kpose.inference import Predictor
from kpose.inference.segmentation import (
    AutomaticSegmenter,
    SaliencySegmenter,
    Segment,
    Segmenter,
    TransformersSegmenter,
    find_object,
)
from kpose.inference.segmentation.saliency import barrier_distance, random_walk
from kpose.inference.segmentation.transformers import regions
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
    found = find_object(to_pillow(scene()), bright := Bright())
    assert found == ((30, 30, 60, 60), bright)
    found = find_object(to_pillow(scene(900, 2400)), bright)
    assert found is not None
    assert found.box == pytest.approx((600, 300, 1200, 600), abs=6)


def test_a_segment_without_a_pixel_is_passed_over() -> None:
    found = find_object(to_pillow(scene()), Nowhere())
    assert found is not None
    assert found.box == (5, 2, 9, 4)
    assert find_object(to_pillow(scene(bright=False)), Bright()) is None


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


def bird_scene(*, place: tuple[int, int], size: tuple[int, int] = (90, 120)) -> Tensor:
    """Give noisy grass with a noisy orange disc of 15 pixels about a place (x, y)."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    disc = torch.hypot(x + 0.5 - place[0], y + 0.5 - place[1]) < 15
    picture = torch.where(
        disc, torch.tensor([0.8, 0.4, 0.1])[:, None, None], torch.tensor([0.2, 0.5, 0.2])[:, None, None]
    )
    noise = 0.04 * torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    return (picture + noise).clamp(0, 1)


@pytest.mark.parametrize("place", [(60, 45), (30, 30), (90, 60)])
def test_saliency_finds_what_differs_from_the_border(place: tuple[int, int]) -> None:
    [segment] = SaliencySegmenter().segment(bird_scene(place=place))
    assert segment.mask.shape == (90, 120)
    assert 0.5 < segment.score <= 1
    x, y = place
    assert segment.box == pytest.approx((x - 15, y - 15, x + 15, y + 15), abs=3)


def test_saliency_is_the_same_for_mirrored_pictures() -> None:
    picture = bird_scene(place=(40, 50))
    [one], [other] = (SaliencySegmenter().segment(image) for image in (picture, picture.flip(-1)))
    torch.testing.assert_close(other.mask.flip(-1), one.mask, atol=0.02, rtol=0)


@pytest.mark.parametrize("size", [(8, 8), (8, 300), (300, 9), (64, 64)])
def test_saliency_finds_nothing_in_a_picture_of_one_colour(size: tuple[int, int]) -> None:
    assert SaliencySegmenter().segment(torch.full((3, *size), 0.4)) == []
    for segment in SaliencySegmenter().segment(torch.rand(3, *size)):
        assert segment.mask.shape == size
        assert segment.mask.isfinite().all()


def test_a_side_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 pixels"):
        SaliencySegmenter(side=8)


def test_barriers_are_ranges_of_colour_on_the_way_to_the_border() -> None:
    lab = torch.zeros(3, 9, 9)
    lab[0, 2:7, 2:7] = 30
    lab[0, 4, 4] = 10
    distance = barrier_distance(lab)
    assert distance[4, 4] == 30  # over the wall, whatever lies behind it
    assert distance[3, 3] == 30
    assert distance[1, 1] == 0


def test_a_random_walk_spreads_within_edges_only() -> None:
    lab = torch.zeros(3, 10, 20)
    lab[0, :, 10:] = 50
    prior = torch.full((10, 20), 0.5)
    prior[5, 5] = 1.0
    prior[5, 15] = 0.0
    share = random_walk(lab, prior, 0.05)
    assert ((share >= 0) & (share <= 1)).all()
    assert (share[:, :9] > 0.5).all()
    assert (share[:, 11:] < 0.5).all()
    torch.testing.assert_close(random_walk(lab, torch.full((10, 20), 0.3), 0.05), torch.full((10, 20), 0.3))


LABELS = {0: "sky", 1: "bird, fowl", 2: "tree"}


def _skip_without(processor: Any) -> None:
    """Skip where this version of transformers has its picture processors with torchvision only."""
    try:
        processor()
    except ImportError as error:
        pytest.skip(f"{processor.__name__} cannot be used: {' '.join(str(error).split())[:80]}")


@pytest.fixture(scope="module")
def semantic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a SegFormer that calls bright regions birds, whatever its weights."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation, SegformerImageProcessorPil

    _skip_without(SegformerImageProcessorPil)
    folder = tmp_path_factory.mktemp("segformer")
    config = SegformerConfig(
        id2label=LABELS, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], num_attention_heads=[1, 1, 1, 1],
        decoder_hidden_size=8,
    )  # fmt: skip
    torch.manual_seed(0)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessorPil(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def universal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a tiny MaskFormer of random weights."""
    from transformers import (
        DetrConfig,
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
        MaskFormerImageProcessorPil,
        SwinConfig,
    )

    _skip_without(MaskFormerImageProcessorPil)
    folder = tmp_path_factory.mktemp("maskformer")
    backbone = SwinConfig(
        embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    decoder = DetrConfig(
        d_model=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=1, decoder_attention_heads=1,
        encoder_ffn_dim=8, decoder_ffn_dim=8, num_queries=5,
    )  # fmt: skip
    config = MaskFormerConfig(
        backbone_config=backbone, decoder_config=decoder, mask_feature_size=8, fpn_feature_size=32, id2label=LABELS
    )
    torch.manual_seed(0)
    MaskFormerForInstanceSegmentation(config).save_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 96}
    MaskFormerImageProcessorPil(size=size, size_divisor=32).save_pretrained(folder)
    return folder


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


MODELS = ("someone/large", "someone/small")


@pytest.fixture
def hub(universal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the second of two models into a cache like that of the Hub, and half of the first."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in MODELS:
        repository = tmp_path / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0123abc")
        shutil.copytree(universal, repository / "snapshots" / "0123abc")
    (tmp_path / "models--someone--large" / "snapshots" / "0123abc" / "model.safetensors").unlink()
    return tmp_path / "models--someone--small" / "snapshots" / "0123abc"


def test_a_model_of_the_cache_goes_before_what_stands_out(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = AutomaticSegmenter(models=MODELS)
    assert segmenter.model_name == "someone/small"
    bird = Segment(torch.ones(90, 120), 1.0)
    monkeypatch.setattr(TransformersSegmenter, "segment", lambda self, image: [bird] if image.max() > 0.95 else [])
    picture = bird_scene(place=(60, 45)).clamp(0, 0.9)
    [segment] = segmenter.segment(picture)
    assert isinstance(segment.found_by, SaliencySegmenter)
    picture[:, 0, 0] = 1
    [segment] = segmenter.segment(picture)
    assert isinstance(segment.found_by, TransformersSegmenter)
    assert segment.mask is bird.mask


def test_a_model_that_cannot_be_used_is_said_once(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    (hub / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"whole weights; those of .* are damaged"):
        TransformersSegmenter(hub)
    segmenter = AutomaticSegmenter(models=MODELS)
    for _ in range(2):
        [segment] = segmenter.segment(bird_scene(place=(60, 45)))
        assert isinstance(segment.found_by, SaliencySegmenter)
    [record] = caplog.records
    assert "someone/small is in the cache of the Hub but cannot be used" in record.getMessage()


def test_the_predictor_says_which_of_the_automatic_segmenters_it_was(checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints["quaternion"])
    assert isinstance(predictor.segmenter, AutomaticSegmenter)
    assert predictor.segmenter.model_name is None
    [found] = predictor(bird_scene(place=(60, 45)))
    assert found.located_by == "SaliencySegmenter"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^There is no folder .*nowhere\."):
        TransformersSegmenter(tmp_path / "nowhere")
