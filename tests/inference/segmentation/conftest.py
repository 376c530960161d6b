"""Pictures with one object, and tiny models of transformers that segment."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kpose.geometry import viewpoint_to_matrix
from kpose.structures import Camera
from kpose.templates import bird, template_mesh
from kpose.visualization import shaded_mesh

LABELS = {0: "sky", 1: "bird, fowl", 2: "tree"}


def scene(height: int = 90, width: int = 120, *, bright: bool = True) -> Tensor:
    """Draw a dark picture with a bright rectangle."""
    picture = torch.full((3, height, width), 0.1)
    if bright:
        picture[:, height // 3 : 2 * height // 3, width // 4 : width // 2] = 0.9
    return picture


def bird_scene(*, place: tuple[int, int], size: tuple[int, int] = (90, 120)) -> Tensor:
    """Draw a brown bird of about 50 pixels, from its side, about a place (x, y) on noisy grass."""
    height, width = size
    side = max(size)
    rotation = viewpoint_to_matrix(*torch.tensor([1.6, 0.2, 0.0]))
    camera = Camera(torch.tensor(0.45), 2 * torch.tensor(place) / side - 1, rotation)
    bird_rgb, mask = shaded_mesh(template_mesh(bird()), camera, side, color=(0.5, 0.35, 0.25))
    grass = torch.tensor([0.35, 0.5, 0.3])[:, None, None].expand(3, side, side)
    noise = 0.04 * torch.randn(3, side, side, generator=torch.Generator().manual_seed(0))
    return (grass.lerp(bird_rgb, mask) + noise).clamp(0, 1)[:, :height, :width]


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
