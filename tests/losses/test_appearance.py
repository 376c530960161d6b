import sys
import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.autograd import gradcheck

from kpose.backbones import TinyBackbone
from kpose.losses import (
    FeatureDistance,
    LPIPSDistance,
    PixelDistance,
)
from kpose.losses.appearance import _feature_distance
from kpose.structures import Features

N, P, SIZE = 2, 3, 32


@pytest.fixture
def pictures():
    mask = torch.zeros(N, SIZE, SIZE)
    mask[0, 8:24, 4:28] = 1
    mask[1, :, 10:20] = 1
    return torch.rand(N, P, 3, SIZE, SIZE), torch.rand(N, 3, SIZE, SIZE), mask


def distances():
    torch.manual_seed(1)
    return [PixelDistance(), FeatureDistance(TinyBackbone(width=8))]


def test_pixel_distance_equals_loops(pictures):
    rendered, photo, mask = (part.numpy() for part in pictures)
    expected = np.zeros((N, P))
    for n in range(N):
        for p in range(P):
            inside = [
                abs(rendered[n, p, c, y, x] - photo[n, c, y, x])
                for c in range(3)
                for y in range(SIZE)
                for x in range(SIZE)
                if mask[n, y, x]
            ]
            expected[n, p] = sum(inside) / (3 * SIZE * SIZE)
    found = PixelDistance()(*pictures)
    assert np.allclose(found.numpy(), expected, rtol=1e-5)


def test_feature_distance_equals_numpy():
    shapes = [(N, 4, 6, 5), (N, 8, 3, 2)]
    first, second = ([torch.randn(shape) for shape in shapes] for _ in range(2))
    total = np.zeros(N)
    for a, b in zip(first, second, strict=True):
        a, b = a.numpy(), b.numpy()
        a = a / np.sqrt((a**2).sum(1, keepdims=True))
        b = b / np.sqrt((b**2).sum(1, keepdims=True))
        # Unit vectors: |a - b|² = 2 - 2 <a, b>.
        total += (2 - 2 * (a * b).sum(1)).reshape(N, -1).mean(-1) / len(shapes)
    found = _feature_distance(Features(tuple(first)), Features(tuple(second)))
    assert np.allclose(found.numpy(), total, atol=1e-5)


def test_cells_without_features_are_equal():
    nothing = torch.zeros(1, 4, 2, 2, requires_grad=True)
    distance = _feature_distance(Features((nothing,)), Features((torch.zeros(1, 4, 2, 2),)))
    (gradient,) = torch.autograd.grad(distance.sum(), nothing)
    assert distance == 0
    assert gradient.isfinite().all()


def test_gradients_of_the_functions():
    maps = [torch.randn(2, 3, 2, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert gradcheck(lambda a, b: _feature_distance(Features((a,)), Features((b,))), maps)
    images = [torch.rand(2, 3, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    mask = torch.rand(2, 4, 4, dtype=torch.float64)
    assert gradcheck(lambda a, b: PixelDistance()(a[:, None], b, mask), images)


@pytest.mark.parametrize("distance", distances(), ids=lambda d: type(d).__name__)
class TestEveryDistance:
    def test_the_photo_itself_is_nearest(self, distance, pictures):
        rendered, photo, mask = pictures
        rendered[:, 1] = photo
        found = distance(rendered, photo, mask)
        assert found.shape == (N, P)
        assert (found[:, 1].abs() < 1e-6).all()
        assert (found[:, [0, 2]] > 1e-4).all()

    def test_outside_of_the_mask_nothing_counts(self, distance, pictures):
        rendered, photo, mask = pictures
        rendered.requires_grad_()
        found = distance(rendered, photo, mask)
        changed = distance(
            rendered + (1 - mask[:, None, None]), photo * mask[:, None] + 5 * (1 - mask[:, None]), mask
        )
        assert torch.allclose(found, changed, atol=1e-6)
        (gradient,) = torch.autograd.grad(found.sum(), rendered)
        assert gradient.abs().sum() > 0
        assert (gradient * (1 - mask[:, None, None]) == 0).all()

    def test_one_rendering_does_not_depend_on_the_others(self, distance, pictures):
        rendered, photo, mask = pictures
        alone = distance(rendered[:1, 2:], photo[:1], mask[:1])
        assert torch.allclose(distance(rendered, photo, mask)[:1, 2:], alone, atol=1e-6)

    def test_bfloat16(self, distance, pictures):
        with torch.autocast("cpu", torch.bfloat16):
            found = distance(*pictures)
        assert torch.allclose(found.float(), distance(*pictures), rtol=0.1, atol=0.02)


def test_a_frozen_backbone_is_shared_and_a_trained_one_copied():
    frozen, trained = TinyBackbone(width=8).freeze(), TinyBackbone(width=8)
    assert FeatureDistance(frozen).backbone is frozen
    own = FeatureDistance(trained).train()
    assert own.backbone is not trained
    assert not own.backbone.training
    assert not any(p.requires_grad for p in own.parameters())
    assert all(p.requires_grad for p in trained.parameters())


def test_few_images_at_a_time_give_the_same(pictures):
    rendered, photo, mask = pictures
    rendered.requires_grad_()
    backbone = TinyBackbone(width=8).freeze()
    found = []
    for count in (4, 100):
        distance = FeatureDistance(backbone, max_images=count)(rendered, photo, mask)
        found.append((distance, *torch.autograd.grad(distance.sum(), rendered)))
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-6)


def test_lpips_without_torchvision_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", None)
    with pytest.raises(ModuleNotFoundError, match="needs torchvision, which is not installed"):
        LPIPSDistance()


def test_lpips_gets_masked_images_in_its_own_range(monkeypatch, pictures):
    """The network is a stand-in: torchvision is no dependency, and its weights would be downloaded."""
    seen = []

    class Network(nn.Module):
        def forward(self, first, second):
            seen.append((first, second))
            return (first - second).abs().mean((1, 2, 3), keepdim=True)

    class Metric:
        def __init__(self, net_type):
            assert net_type == "vgg"
            self.net = Network()

    module = types.ModuleType("torchmetrics.image.lpip")
    module.LearnedPerceptualImagePatchSimilarity = Metric
    monkeypatch.setitem(sys.modules, "torchmetrics.image.lpip", module)
    rendered, photo, mask = pictures
    distance = LPIPSDistance("vgg").train()
    assert not distance.training
    found = distance(rendered, photo, mask)
    assert found.shape == (N, P)
    first, second = seen[0]
    assert first.shape[-1] == 64
    assert first.min() == -1
    assert second.max() <= 1
    assert found[0, 1] == (first[1] - second[1]).abs().mean()
