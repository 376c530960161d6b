import pytest
import torch

from kpose.reconstruction.shape import MeanShape, MirrorSymmetry, ShapeHead
from kpose.structures import Features, FeatureSpec
from kpose.templates import bird

SPEC = FeatureSpec((4, 8), (16, 32))


def features(batch, cells=2):
    return Features((torch.randn(batch, 4, 2 * cells, 2 * cells), torch.randn(batch, 8, cells, cells)))


def expect_symmetric(vertices):
    template = bird()
    mirrored = vertices[..., template.mirror, :] * torch.tensor([-1.0, 1.0, 1.0])
    assert torch.equal(mirrored + 0.0, vertices + 0.0)
    plane = template.mirror == torch.arange(len(template.mirror))
    assert (vertices[..., plane, 0] == 0).all()


def test_any_free_numbers_give_symmetric_vertices():
    symmetry = MirrorSymmetry(bird())
    expect_symmetric(symmetry(torch.randn(2, 3, symmetry.num_free, 3)))
    on_plane = int((bird().mirror == torch.arange(642)).sum())
    assert symmetry.num_free == on_plane + (642 - on_plane) // 2


def test_free_vertices_restore_the_template():
    symmetry = MirrorSymmetry(bird())
    assert torch.equal(symmetry(bird().vertices[symmetry.free]) + 0.0, bird().vertices + 0.0)


def test_gradient_equals_that_of_moving_both_partners():
    symmetry = MirrorSymmetry(bird())
    free = torch.randn(symmetry.num_free, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(642, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((symmetry(free) * weight).sum(), free)
    for row in (0, 5, 100, symmetry.num_free - 1):
        vertex = int(symmetry.free[row])
        partner = int(bird().mirror[vertex])
        if partner == vertex:
            expected = weight[vertex] * torch.tensor([0.0, 1.0, 1.0])
        else:
            expected = weight[vertex] + weight[partner] * torch.tensor([-1.0, 1.0, 1.0])
        assert torch.allclose(gradient[row], expected.double())


def test_mean_shape_starts_at_the_template_and_learns():
    mean = MeanShape(bird())
    assert torch.equal(mean() + 0.0, bird().vertices + 0.0)
    optimizer = torch.optim.SGD(mean.parameters(), lr=1.0)
    mean().square().sum().backward()
    optimizer.step()
    assert not torch.equal(mean(), bird().vertices)
    expect_symmetric(mean().detach())


def test_deformations_start_near_zero_and_are_symmetric():
    offsets = ShapeHead(SPEC, bird())(features(2))
    assert 0 < offsets.abs().max() < 0.02
    expect_symmetric(offsets.detach())
    assert not torch.equal(offsets[0], offsets[1])


@pytest.mark.parametrize("cells", [1, 2, 7])
def test_any_image_size_and_a_batch_of_one(cells):
    head = ShapeHead(SPEC, bird()).train()
    assert head(features(1, cells)).shape == (1, 642, 3)


def test_the_shape_of_an_image_does_not_depend_on_its_batch():
    head, pyramid = ShapeHead(SPEC, bird()).train(), features(3)
    alone = head(Features(tuple(m[:1] for m in pyramid.maps)))
    assert torch.allclose(head(pyramid)[:1], alone, atol=1e-7)


def test_bfloat16_gives_float32_offsets():
    with torch.autocast("cpu", torch.bfloat16):
        offsets = ShapeHead(SPEC, bird())(features(2))
    assert offsets.dtype == torch.float32
    expect_symmetric(offsets.detach())
