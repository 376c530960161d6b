from functools import partial

import torch

from kpose.reconstruction import MeshReconstructor, TextureHead
from kpose.rendering import SoftRenderer
from kpose.structures import Camera, Features, FeatureSpec
from kpose.templates import bird

SPEC = FeatureSpec((4, 8), (16, 32))
small = partial(MeshReconstructor, texture=partial(TextureHead, height=16, width=4))


def features(batch):
    return Features((torch.randn(batch, 4, 4, 4), torch.randn(batch, 8, 2, 2)))


def test_vertices_are_mean_plus_deformation():
    model = small(SPEC, bird())
    found = model(features(2))
    assert torch.equal(found.vertices, model.mean_shape() + found.deformation)
    assert torch.equal(found.vertices[:, bird().mirror, 1:], found.vertices[..., 1:])
    assert torch.equal(found.vertices[:, bird().mirror, 0], -found.vertices[..., 0])
    assert (found.vertices - bird().vertices).abs().max() < 0.02


def test_mesh_renders_and_every_parameter_gets_a_gradient():
    model = small(SPEC, bird())
    mesh = model.mesh(model(features(2)))
    camera = Camera(torch.full((2,), 0.7), torch.zeros(2, 2), torch.eye(3).expand(2, 3, 3))
    rendering = SoftRenderer().render(mesh, camera, 32)
    (rendering.rgb.square().mean() + rendering.mask.mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_state_dict_restores_the_prediction():
    first, second, pyramid = small(SPEC, bird()), small(SPEC, bird()), features(2)
    second.load_state_dict(first.state_dict())
    for a, b in zip(first(pyramid), second(pyramid), strict=True):
        assert torch.equal(a, b)


def test_another_template():
    template = bird()._replace(vertices=2 * bird().vertices)
    assert torch.equal(small(SPEC, template).mean_shape() + 0.0, template.vertices + 0.0)
