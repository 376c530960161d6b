import torch
from torch import nn

from kpose.backbones import Backbone, TinyBackbone
from kpose.structures import FeatureSpec


class Probe(Backbone):
    """Gives back its normalized input."""

    def __init__(self):
        super().__init__(FeatureSpec((3,), (1,)))

    def pyramid(self, image):
        return (image,)


def test_input_is_normalised_with_the_statistics_of_imagenet():
    image = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    assert torch.allclose(Probe()(image).maps[0], torch.zeros(1, 3, 2, 2), atol=1e-6)
    assert torch.allclose(Probe()(image + 0.229).maps[0][:, 0], torch.ones(1, 2, 2), atol=1e-6)


def test_frozen_backbone_has_no_gradient_and_stays_in_evaluation():
    backbone = TinyBackbone(width=8).freeze()
    nn.Sequential(backbone).train()
    assert not backbone.training
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    statistics = [buffer.clone() for buffer in backbone.buffers()]
    features = backbone(torch.rand(2, 3, 64, 64, requires_grad=True))
    assert not any(m.requires_grad for m in features.maps)
    assert all(torch.equal(a, b) for a, b in zip(statistics, backbone.buffers(), strict=True))


def test_trained_backbone_has_gradients():
    backbone = TinyBackbone(width=8).train()
    sum(m.mean() for m in backbone(torch.rand(2, 3, 64, 64)).maps).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
