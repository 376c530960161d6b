"""The contract of backbones."""

import copy

import torch
from torch import Tensor

from kpose.backbones import Backbone
from kpose.structures import Features
from kpose.testing.expect import Expect, expecting

__all__ = ["check_backbone"]


def check_backbone(backbone: Backbone, *, image_size: int = 64) -> None:
    """Check that a backbone keeps the contract of `Backbone`.

    Feature maps are those of ``spec``, fine to coarse, for batches of one and of three; every trainable parameter
    gets a finite gradient, and so does the image, also through a frozen backbone's `pyramid`; evaluation is
    deterministic and does not mix images; bfloat16 autocast works; a frozen backbone stays in evaluation mode and
    gives features without gradient.

    Args:
        backbone: Backbone; a copy of it is checked.
        image_size: Side of the images, divisible by the coarsest stride.

    Raises:
        AssertionError: If the backbone breaks a rule; the message names it.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> check_backbone(TinyBackbone(width=8))
    """
    expect = expecting("A backbone")
    backbone = copy.deepcopy(backbone)
    channels, strides = backbone.spec
    expect(len(channels) == len(strides) > 0, f"as many channels as strides in its `spec`; got {backbone.spec}")
    expect(list(strides) == sorted(strides), f"maps from fine to coarse; got strides {strides}")
    image = torch.rand(3, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    for size in (1, 3):
        _check_maps(expect, backbone, backbone.train()(image[:size]), image_size)
    if not backbone.frozen:
        _check_training(expect, backbone, image)
    _check_evaluation(expect, backbone.eval(), image)
    _check_frozen(expect, backbone.freeze(), image)


def _check_maps(expect: Expect, backbone: Backbone, features: Features, image_size: int) -> None:
    expect(isinstance(features, Features), f"to return `Features`; got {type(features).__name__}")
    size = len(features.maps[0])
    wanted = [(size, c, image_size // s, image_size // s) for c, s in zip(*backbone.spec, strict=True)]
    shapes = [tuple(part.shape) for part in features.maps]
    expect(shapes == wanted, f"the maps of its `spec`, {wanted}; got {shapes}")
    expect(all(part.isfinite().all() for part in features.maps), "finite features")


def _total(maps: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([part.float().square().mean() for part in maps]).sum()


def _check_training(expect: Expect, backbone: Backbone, image: Tensor) -> None:
    backbone.train().zero_grad()
    torch.autograd.backward(_total(backbone(image).maps))
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            expect(parameter.grad is not None, f"a gradient for every parameter; {name!r} has none")
            assert parameter.grad is not None
            expect(parameter.grad.isfinite().all(), f"finite gradients; that of {name!r} is not")


@torch.no_grad()
def _check_evaluation(expect: Expect, backbone: Backbone, image: Tensor) -> None:
    first, second, alone = backbone(image).maps, backbone(image).maps, backbone(image[:1]).maps
    expect(all(map(torch.equal, first, second)), "the same features twice in evaluation mode")
    close = all(torch.allclose(a[:1], b, rtol=1e-3, atol=1e-3) for a, b in zip(first, alone, strict=True))
    expect(close, "features in evaluation mode that do not depend on the other images of the batch")
    with torch.autocast("cpu", torch.bfloat16):
        _check_maps(expect, backbone, backbone(image), image.shape[-1])


def _check_frozen(expect: Expect, backbone: Backbone, image: Tensor) -> None:
    expect(not any(p.requires_grad for p in backbone.parameters()), "no trainable parameter once frozen")
    expect(
        not any(module.training for module in backbone.train().modules()), "evaluation mode for good once frozen"
    )
    expect(not backbone(image).maps[0].requires_grad, "features without gradient once frozen")
    image = image.clone().requires_grad_()
    total = _total(backbone.pyramid(backbone.normalize(image)))
    expect(total.requires_grad, "a `pyramid` with gradients for the image")
    (gradient,) = torch.autograd.grad(total, image)
    expect(gradient.isfinite().all() & (gradient != 0).any(), "a `pyramid` with gradients for the image")
