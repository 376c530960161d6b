"""The contract of backbones, for all of ours and for the example of a user's own."""

import importlib
from pathlib import Path

import pytest
import torch
from transformers import ResNetBackbone, ResNetConfig

from kpose.backbones import EfficientNetLite, TinyBackbone, TransformersBackbone
from kpose.structures import FeatureSpec
from kpose.testing import check_backbone

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_backbone"


def test_tiny():
    check_backbone(TinyBackbone(width=8))


@pytest.mark.parametrize("frozen", [True, False])
def test_transformers(tmp_path, frozen):
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic")
    ResNetBackbone(config).save_pretrained(tmp_path)
    check_backbone(TransformersBackbone(tmp_path, out_stages=(2, 3, 4), frozen=frozen))


@pytest.mark.parametrize("frozen", [True, False, "early"])
def test_efficientnet_lite(frozen):
    check_backbone(EfficientNetLite(frozen=frozen))


def test_example(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    check_backbone(importlib.import_module("efficientnet_lite").EfficientNetLite())


class WrongSpec(TinyBackbone):
    def __init__(self):
        super().__init__(width=8)
        self.spec = FeatureSpec((8, 16, 32, 65), self.spec.strides)


class Unused(TinyBackbone):
    def __init__(self):
        super().__init__(width=8)
        self.unused = torch.nn.Linear(2, 2)


class Random(TinyBackbone):
    def pyramid(self, image):
        return super().pyramid(image + torch.rand(()))


class Mixing(TinyBackbone):
    def pyramid(self, image):
        return super().pyramid(image - image.mean(0))


class Cut(TinyBackbone):
    def pyramid(self, image):
        return super().pyramid(image.detach())


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (WrongSpec, "the maps of its `spec`"),
        (Unused, "'unused.weight' has none"),
        (Random, "same features twice"),
        (Mixing, "do not depend on the other images"),
        (Cut, "a `pyramid` with gradients for the image"),
    ],
)
def test_broken_backbones_are_found_out(kind, rule):
    with pytest.raises(AssertionError, match=rule):
        check_backbone(kind())


def test_the_backbone_itself_is_left_alone():
    backbone = TinyBackbone(width=8)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    check_backbone(backbone)
    assert not backbone.frozen
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())
