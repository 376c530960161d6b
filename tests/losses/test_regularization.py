import math

import pytest
import torch
import trimesh
from torch.autograd import gradcheck

from kpose.geometry._mesh import edges
from kpose.losses import GraphLaplacianLoss, deformation_loss
from kpose.templates import bird

FACES = torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3], [3, 2, 4]])


def neighbors(faces, count):
    found = [set() for _ in range(count)]
    for a, b, c in faces.tolist():
        for i, j in ((a, b), (b, c), (c, a)):
            found[i].add(j)
            found[j].add(i)
    return found


def by_loops(vertices, faces, *, paper):
    """Written from the paper's formula, vertex by vertex."""
    total = 0.0
    positions = vertices.tolist()
    for own, others in zip(positions, neighbors(faces, len(positions)), strict=True):
        around = [positions[j] for j in others]
        mean = [sum(p[k] for p in around) / len(around) for k in range(3)]
        difference = [own[k] - mean[k] for k in range(3)]
        if paper:
            total += sum(d * d for d in difference)
        else:
            total += len(around) * math.sqrt(sum(d * d for d in difference))
    return total / len(positions)


@pytest.mark.parametrize("paper", [False, True])
def test_laplacian_equals_loops_over_vertices(paper):
    vertices = torch.randn(3, 5, 3, dtype=torch.float64)
    loss = GraphLaplacianLoss(FACES, 5, normalized=paper, squared=paper)
    expected = torch.tensor([by_loops(mesh, FACES, paper=paper) for mesh in vertices], dtype=torch.float64)
    assert torch.allclose(loss(vertices), expected, rtol=1e-6)
    assert torch.allclose(loss(vertices[0]), expected[0], rtol=1e-6)


@pytest.mark.parametrize("squared", [False, True])
def test_gradients(squared):
    vertices = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    loss = GraphLaplacianLoss(FACES, 5, normalized=squared, squared=squared).double()
    assert gradcheck(loss, (vertices,))
    assert gradcheck(lambda v: deformation_loss(v, squared=squared), (vertices,))


def test_a_moved_or_turned_shape_is_as_rough():
    template = bird()
    loss = GraphLaplacianLoss(template.faces, len(template.vertices))
    rough = loss(template.vertices)
    assert torch.allclose(loss(template.vertices.flip(-1) + 3), rough, rtol=1e-3)
    bumpy = template.vertices + 0.01 * torch.randn_like(template.vertices)
    assert loss(bumpy) > rough


def test_deformation_equals_loops():
    offsets = torch.randn(2, 4, 3)
    lengths = [[math.sqrt(sum(x * x for x in row)) for row in mesh] for mesh in offsets.tolist()]
    released = torch.tensor([sum(row) / 4 for row in lengths])
    paper = torch.tensor([sum(x * x for x in row) / 4 for row in lengths])
    assert torch.allclose(deformation_loss(offsets), released)
    assert torch.allclose(deformation_loss(offsets, squared=True), paper)


def test_no_deformation_has_no_gradient():
    offsets = torch.zeros(2, 4, 3, requires_grad=True)
    deformation_loss(offsets).sum().backward()
    assert torch.equal(offsets.grad, torch.zeros_like(offsets))


def test_half_precision_is_left_to_autocast_of_others():
    vertices = bird().vertices[None]
    loss = GraphLaplacianLoss(bird().faces, len(bird().vertices))
    with torch.autocast("cpu", torch.bfloat16):
        half = loss(vertices)
    assert torch.equal(half, loss(vertices))


def test_operator_follows_the_dtype():
    operator = GraphLaplacianLoss(FACES, 5)
    assert operator(torch.randn(5, 3)).dtype == torch.float32
    assert operator(torch.randn(5, 3, dtype=torch.float64)).dtype == torch.float64


def matrix(faces, count, *, normalized):
    """The operator, column by column."""
    unit = torch.eye(count, dtype=torch.float64)[..., None].expand(-1, -1, 3)
    return GraphLaplacianLoss(faces, count, normalized=normalized).differences(unit)[..., 0].T


@pytest.mark.parametrize("normalized", [False, True])
def test_laplacian(normalized):
    mesh = trimesh.creation.icosphere(subdivisions=1)
    vertices, faces = torch.tensor(mesh.vertices), torch.tensor(mesh.faces)
    dense = matrix(faces, len(vertices), normalized=normalized)
    assert torch.allclose(dense.sum(-1), torch.zeros(len(vertices), dtype=vertices.dtype), atol=1e-12)
    pairs = edges(faces)
    neighbors = [[int(b if a == v else a) for a, b in pairs if v in (a, b)] for v in range(len(vertices))]
    mean = torch.stack([vertices[index].mean(0) for index in neighbors])
    degree = torch.tensor([[1.0] if normalized else [float(len(index))] for index in neighbors]).double()
    loss = GraphLaplacianLoss(faces, len(vertices), normalized=normalized)
    assert torch.allclose(loss.differences(vertices), degree * (vertices - mean), atol=1e-12)
    assert torch.equal(dense, dense.T) or normalized


def test_laplacian_of_a_lonely_vertex_is_zero():
    for normalized in (False, True):
        dense = matrix(torch.tensor([[0, 1, 2]]), 4, normalized=normalized)
        assert dense.isfinite().all()
        assert (dense[3] == 0).all()
