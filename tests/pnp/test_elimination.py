import torch
from pnp.problems import DOUBLE

from kpose.pnp.elimination import eliminate, thinnest_axis


def test_elimination_inverts_and_its_pivots_are_those_of_cholesky():
    root = torch.randn(5, 6, 6, dtype=DOUBLE)
    matrix = root @ root.mT
    inverse, pivot = eliminate(matrix.permute(1, 2, 0))
    torch.testing.assert_close(inverse.permute(2, 0, 1), torch.linalg.inv(matrix))
    torch.testing.assert_close(pivot, torch.linalg.cholesky(matrix).diagonal(dim1=1, dim2=2).square().amin(-1))


def test_only_positive_definite_matrices_have_positive_pivots():
    matrix = torch.stack((torch.eye(3), torch.diag(torch.tensor([1.0, -1.0, 2.0])), torch.ones(3, 3)))
    assert (eliminate(matrix.permute(1, 2, 0))[1] > 0).tolist() == [True, False, False]


def test_thinnest_axis_is_that_of_the_smallest_eigenvalue():
    points = torch.randn(50, 12, 3) * torch.tensor([1.0, 0.6, 0.3])
    spread = points.mT @ points
    found, expected = thinnest_axis(spread), torch.linalg.eigh(spread)[1][..., 0]
    torch.testing.assert_close((found * expected).sum(-1).abs(), torch.ones(50), atol=1e-3, rtol=0)


def test_thinnest_axis_of_planes_lines_and_points():
    plane, line = torch.diag(torch.tensor([2.0, 0.0, 1e-4])), torch.diag(torch.tensor([0.0, 3.0, 0.0]))
    torch.testing.assert_close(thinnest_axis(plane).abs(), torch.tensor([0.0, 1.0, 0.0]))
    assert thinnest_axis(line)[1].abs() < 1e-3  # any across the line
    torch.testing.assert_close(thinnest_axis(torch.zeros(3, 3)).norm(), torch.tensor(1.0))
