"""Pictures with one object, and tiny models of transformers that segment."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

LABELS = {0: "sky", 1: "bird, fowl", 2: "tree"}


def scene(height: int = 90, width: int = 120, *, bright: bool = True) -> Tensor:
    """Draw a dark picture with a bright rectangle."""
    picture = torch.full((3, height, width), 0.1)
    if bright:
        picture[:, height // 3 : 2 * height // 3, width // 4 : width // 2] = 0.9
    return picture


def bird_scene(*, place: tuple[int, int], size: tuple[int, int] = (90, 120)) -> Tensor:
    """Draw noisy grass with a noisy orange disc of 15 pixels about a place (x, y)."""
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    disc = torch.hypot(x + 0.5 - place[0], y + 0.5 - place[1]) < 15
    picture = torch.where(
        disc, torch.tensor([0.8, 0.4, 0.1])[:, None, None], torch.tensor([0.2, 0.5, 0.2])[:, None, None]
    )
    noise = 0.04 * torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
    return (picture + noise).clamp(0, 1)


def _skip_without(processor: Any) -> None:
    """Skip where this version of transformers has its picture processors with torchvision only."""
    try:
        processor()
    except ImportError as error:
        pytest.skip(f"{processor.__name__} cannot be used: {' '.join(str(error).split())[:80]}")


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
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
