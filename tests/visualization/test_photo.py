import math

import pytest
import torch
from visualization.checks import is_picture

from kpose.geometry import project, viewpoint_to_matrix
from kpose.structures import Camera, Mesh
from kpose.templates import bird, template_mesh
from kpose.visualization import draw_keypoints, overlay, overlay_mesh


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return template_mesh(bird())


@pytest.fixture
def side_camera() -> Camera:
    rotation = viewpoint_to_matrix(torch.tensor(math.pi / 2), torch.tensor(0.2), torch.tensor(0.1))
    return Camera(torch.tensor(14.0), torch.tensor([30.0, 12.0]), rotation)


def test_overlay_tints_the_inside_and_leaves_the_outside() -> None:
    photo = torch.rand(3, 40, 50)
    mask = torch.zeros(40, 50, dtype=torch.bool)
    mask[10:30, 10:30] = True
    picture = overlay(photo, mask, color=(0.0, 1.0, 0.0), opacity=0.5)
    assert is_picture(picture, 40, 50)
    torch.testing.assert_close(picture[:, :, 35:], photo[:, :, 35:])
    torch.testing.assert_close(picture[0, 20, 20], 0.5 * photo[0, 20, 20])
    torch.testing.assert_close(picture[:, 10, 20], torch.tensor([0.0, 1.0, 0.0]))  # the outline is opaque


def test_overlay_leaves_its_input_alone() -> None:
    photo = torch.rand(3, 20, 20)
    kept = photo.clone()
    overlay(photo, torch.ones(20, 20))
    draw_keypoints(photo, torch.tensor([[10.0, 10.0]]))
    assert photo.equal(kept)


@pytest.mark.parametrize("size", [(24, 60), (60, 24)])
def test_the_mesh_is_drawn_where_its_vertices_project(mesh: Mesh, side_camera: Camera, size: tuple) -> None:
    camera = side_camera if size[1] == 60 else side_camera._replace(translation=torch.tensor([12.0, 30.0]))
    picture = overlay_mesh(torch.zeros(3, *size), mesh, camera, color=(1.0, 1.0, 1.0), opacity=1.0)
    assert is_picture(picture, *size)
    rows, columns = (picture.amax(0) > 0.1).nonzero().unbind(-1)
    points = project(mesh.vertices, camera)
    low, high = points.amin(0).clamp_min(0), points.amax(0).minimum(torch.tensor([size[1], size[0]]))
    assert columns.min().item() == pytest.approx(low[0].item(), abs=1.5)
    assert columns.max().item() + 1 == pytest.approx(high[0].item(), abs=1.5)
    assert rows.min().item() == pytest.approx(low[1].item(), abs=1.5)
    assert rows.max().item() + 1 == pytest.approx(high[1].item(), abs=1.5)


def test_only_a_mesh_with_colors_of_its_own_is_outlined(mesh: Mesh, side_camera: Camera) -> None:
    green, photo = (0.0, 1.0, 0.0), torch.zeros(3, 24, 60)
    plain = mesh._replace(uv=None, uv_faces=None, texture=None, vertex_colors=None)
    black = plain._replace(vertex_colors=torch.zeros_like(mesh.vertices))
    outlined = overlay_mesh(photo, black, side_camera, color=green)
    assert outlined[1].max() == 1
    assert (outlined[1] > 0).sum() < (overlay_mesh(photo, plain, side_camera, color=green)[1] > 0).sum()


def test_a_mesh_outside_the_picture_changes_nothing(mesh: Mesh, side_camera: Camera) -> None:
    photo = torch.rand(3, 16, 32)
    away = side_camera._replace(translation=torch.tensor([500.0, 500.0]))
    assert overlay_mesh(photo, mesh, away).equal(photo)


def test_keypoints_are_drawn_at_their_pixels() -> None:
    picture = draw_keypoints(torch.ones(3, 40, 60), torch.tensor([[45.5, 10.5]]))
    assert is_picture(picture, 40, 60)
    rows, columns = (picture.amin(0) < 0.9).nonzero().float().unbind(-1)
    assert rows.mean().item() + 0.5 == pytest.approx(10.5)
    assert columns.mean().item() + 0.5 == pytest.approx(45.5)


def test_confidence_sets_the_color_and_the_order() -> None:
    same = torch.full((2, 2), 20.5)
    both = draw_keypoints(torch.ones(3, 40, 40), same, torch.tensor([1.0, 0.0]))
    high = draw_keypoints(torch.ones(3, 40, 40), same[:1], torch.tensor([1.0]))
    low = draw_keypoints(torch.ones(3, 40, 40), same[:1], torch.tensor([0.0]))
    assert both[:, 20, 20].equal(high[:, 20, 20])
    assert high[0, 20, 20] > low[0, 20, 20] + 0.5


def test_outliers_are_rings() -> None:
    point = torch.tensor([[20.5, 20.5]])
    picture = draw_keypoints(torch.ones(3, 40, 40), point, inliers=torch.tensor([False]), radius=6.0)
    assert picture[:, 20, 20].equal(torch.ones(3))
    assert picture[:, 20, 25].min() < 0.5


def test_keypoints_out_of_sight_are_left_out() -> None:
    photo = torch.rand(3, 20, 30)
    away = torch.tensor([[-50.0, 5.0], [math.nan, 5.0], [math.inf, 5.0], [5.0, 400.0]])
    assert draw_keypoints(photo, away).equal(photo)
    assert draw_keypoints(photo, torch.zeros(0, 2)).equal(photo)
    cut = draw_keypoints(photo, torch.tensor([[0.0, 0.0], [30.0, 20.0]]))
    assert is_picture(cut, 20, 30)
    assert not cut.equal(photo)
