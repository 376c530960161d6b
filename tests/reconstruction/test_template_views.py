import pytest
import torch

from kpose.geometry import project, rotation_grid
from kpose.reconstruction.template_views import (
    WINDOW_CELLS,
    WINDOW_REACH,
    Placement,
    cut_windows,
    placement_of_mask,
    silhouette_overlap,
    view_template,
)
from kpose.rendering import HardRenderer, vertex_visibility
from kpose.structures import Camera, Mesh
from kpose.templates import bird
from kpose.templates._coarsen import coarsen_template


@pytest.fixture(scope="module")
def mesh():
    shape = coarsen_template(bird(), 100)
    return Mesh(shape.vertices, shape.faces)


@pytest.fixture(scope="module")
def rotations():
    return rotation_grid(40)


def draw(mesh, camera, size=128):
    return HardRenderer().render(mesh, camera, size).mask


def test_placements_are_those_of_a_rectangle():
    mask = torch.zeros(2, 20, 40)
    mask[1, 5:15, 30:40] = 1
    empty, seen = (Placement(*(part[row] for part in placement_of_mask(mask))) for row in (0, 1))
    torch.testing.assert_close(seen.center, torch.tensor([0.75, 0.0]))
    torch.testing.assert_close(seen.area, torch.tensor(0.5 * 1.0))
    assert empty.center.abs().max() < 1e-6
    assert 0 < empty.area < 1e-6


def test_windows_do_not_tell_place_and_size(mesh, rotations):
    """The same object, small in a corner and large in the middle."""
    count = len(rotations)
    large = Camera(torch.full((count,), 0.9), torch.zeros(count, 2), rotations)
    small = Camera(torch.full((count,), 0.5), torch.tensor([0.3, -0.2]).expand(count, 2), rotations)
    windows = []
    for camera in (large, small):
        mask = draw(mesh, camera)
        windows.append(cut_windows(mask[:, None], placement_of_mask(mask)).flatten(1))
    assert (windows[0] - windows[1]).abs().mean() < 0.01
    views = view_template(mesh, rotations)
    overlap = silhouette_overlap(windows[1], views)
    assert overlap.diagonal().min() > 0.88
    assert (overlap.amax(-1) - overlap.diagonal()).max() < 0.03


def test_windows_are_empty_outside_the_picture():
    window = cut_windows(torch.ones(1, 1, 8, 8), Placement(torch.ones(1, 2), torch.ones(1)))[0, 0]
    assert window[0, 0] == 1
    assert not window[-1].any()
    assert not window[:, -1].any()


def test_cells_show_the_vertices_that_are_seen(mesh, rotations):
    views = view_template(mesh, rotations)
    camera = Camera(torch.full((len(rotations),), 0.7), torch.zeros(len(rotations), 2), rotations)
    seen = vertex_visibility(mesh, camera, size=48)
    shown = views.cells < WINDOW_CELLS**2
    assert (shown == seen).float().mean() > 0.98
    center, area = placement_of_mask(draw(mesh, camera))
    points = project(mesh.vertices.expand(len(rotations), -1, -1), camera)
    expected = (points - center[:, None]) / area.sqrt()[:, None, None]
    cells = views.cells[shown]
    middle = torch.stack((cells % WINDOW_CELLS, cells // WINDOW_CELLS), -1) + 0.5
    found = (middle / WINDOW_CELLS * 2 - 1) * WINDOW_REACH
    assert (found - expected[shown]).abs().max() < WINDOW_REACH / WINDOW_CELLS + 0.02


def test_identical_masks_overlap_wholly():
    views = view_template(Mesh(*_square()), torch.eye(3)[None])
    assert silhouette_overlap(views.silhouettes, views).item() == pytest.approx(1, abs=0.02)
    assert silhouette_overlap(torch.zeros_like(views.silhouettes), views).item() == 0
    area = views.silhouettes.sum() * (2 * WINDOW_REACH / WINDOW_CELLS) ** 2
    assert area.item() == pytest.approx(1, abs=0.05)


def _square():
    corners = torch.tensor([[-0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [0.5, 0.5, 0.0], [-0.5, 0.5, 0.0]])
    return corners, torch.tensor([[0, 1, 2], [0, 2, 3], [0, 2, 1], [0, 3, 2]])
