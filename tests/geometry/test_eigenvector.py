import torch

from kpose.geometry import procrustes, quaternion_to_matrix, random_rotation
from kpose.geometry._eigenvector import dominant_eigenvector, nearest_quaternion


def test_dominant_eigenvector_is_that_of_the_largest_eigenvalue():
    root = torch.randn(20, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrix = root @ root.mT
    found, expected = dominant_eigenvector(matrix, squarings=16), torch.linalg.eigh(matrix)[1][..., -1]
    torch.testing.assert_close((found * expected).sum(-1).abs(), torch.ones(20, dtype=torch.float64))


def test_nearest_quaternions_are_those_of_procrustes():
    raw = torch.randn(200, 3, 3, generator=torch.Generator().manual_seed(1))  # about half of them mirror
    torch.testing.assert_close(quaternion_to_matrix(nearest_quaternion(raw)), procrustes(raw), rtol=0, atol=1e-4)
    rotation = random_rotation((50,), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(quaternion_to_matrix(nearest_quaternion(3 * rotation)), rotation, rtol=0, atol=1e-5)
