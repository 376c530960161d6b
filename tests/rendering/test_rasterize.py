import pytest
import torch
from rendering.scenes import IDENTITY

from kpose.rendering import HardRenderer
from kpose.structures import Mesh


def test_coverage_of_a_triangle_by_hand():
    # Legs along the left and the upper border: pixel (i, j) is inside when its center is above the diagonal.
    mesh = Mesh(torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]]), torch.tensor([[0, 2, 1]]))
    mask = HardRenderer().render(mesh, IDENTITY, 5).mask
    i, j = torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")
    torch.testing.assert_close(mask, (i + j < 5).float())


def test_coverage_in_an_oblong_image():
    mesh = Mesh(
        torch.tensor([[-1.0, -1, 0], [0, -1, 0], [-1, 1, 0], [0, 1, 0]]), torch.tensor([[0, 2, 1], [1, 2, 3]])
    )
    mask = HardRenderer().render(mesh, IDENTITY, (3, 8)).mask
    assert mask.shape == (3, 8)
    assert bool((mask[:, :4] == 1).all())
    assert bool((mask[:, 4:] == 0).all())


def test_nearer_face_hides_the_farther_whatever_the_order():
    square = torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    depths = torch.tensor([0.5, -0.5, 0.0])
    vertices = torch.cat([torch.cat((square, torch.full((4, 1), z)), 1) for z in depths])
    faces = torch.tensor([[0, 2, 1], [1, 2, 3]])
    rendering = HardRenderer().render(Mesh(vertices, torch.cat([faces + 4 * k for k in range(3)])), IDENTITY, 4)
    assert bool(((rendering.face_index == 2) | (rendering.face_index == 3)).all())
    torch.testing.assert_close(rendering.depth, torch.full((4, 4), -0.5))


def test_faces_at_equal_depth_give_the_first():
    mesh = Mesh(torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]]), torch.tensor([[0, 2, 1], [0, 2, 1]]))
    assert HardRenderer().render(mesh, IDENTITY, 4).face_index.max() == 0


@pytest.mark.parametrize("size", [7, 16, 33])
def test_neighboring_faces_leave_no_cracks(size):
    # A grid whose vertices lie exactly on pixel centers and their rows, the worst case for rounding.
    line = (2 * torch.arange(size) + 1) / size - 1
    count = size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    index = torch.arange(size * size).view(size, size)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = torch.cat((torch.stack((a, c, b), -1).view(-1, 3), torch.stack((b, c, d), -1).view(-1, 3)))
    vertices = torch.stack((x, y, torch.zeros_like(x)), -1).view(-1, 3)
    assert len(faces) == 2 * count**2
    mask = HardRenderer().render(Mesh(vertices, faces), IDENTITY, size).mask
    assert bool((mask == 1).all())
