import math

import pytest
import torch
from visualization.checks import is_picture

from kpose.geometry import axis_angle_to_matrix, viewpoint_to_matrix
from kpose.rendering import SoftRenderer
from kpose.structures import Camera, Mesh
from kpose.templates import bird, template_mesh
from kpose.visualization import mesh_views, shaded_mesh, turntable


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return template_mesh(bird())


@pytest.fixture
def side_camera() -> Camera:
    rotation = viewpoint_to_matrix(torch.tensor(math.pi / 2), torch.tensor(0.2), torch.tensor(0.1))
    return Camera(torch.tensor(14.0), torch.tensor([30.0, 12.0]), rotation)


def test_the_side_under_the_light_is_brighter(mesh: Mesh) -> None:
    rotation = viewpoint_to_matrix(torch.tensor(math.pi / 2), torch.tensor(0.0), torch.tensor(0.0))
    rgb, mask = shaded_mesh(mesh, Camera(torch.tensor(0.8), torch.zeros(2), rotation), 64)
    column = mask[:, 32] > 0.99
    top, bottom = column.nonzero()[[2, -3], 0]
    assert rgb[0, top, 32] > 1.3 * rgb[0, bottom, 32]


def test_a_mesh_keeps_its_own_colors(mesh: Mesh) -> None:
    red = torch.tensor([1.0, 0.0, 0.0]).expand(mesh.vertices.shape)
    rgb, mask = shaded_mesh(
        mesh._replace(vertex_colors=red), Camera(torch.tensor(0.8), torch.zeros(2), torch.eye(3)), 32
    )
    assert rgb[0][mask > 0].min() > 0.2
    assert rgb[1:].max() == 0


def test_any_renderer_shades(mesh: Mesh) -> None:
    camera = Camera(torch.tensor(0.8), torch.zeros(2), torch.eye(3))
    hard, _ = shaded_mesh(mesh, camera, 32)
    soft, _ = shaded_mesh(mesh, camera, 32, renderer=SoftRenderer())
    assert (hard - soft).abs().mean() < 0.02


def test_views_fit_their_frames_and_differ(mesh: Mesh) -> None:
    views = mesh_views(mesh, 48, background=0.0)
    assert all(is_picture(view, 48, 48) for view in views)
    border = torch.cat((views[:, :, 0].flatten(), views[:, :, -1].flatten(), views[..., 0].flatten()))
    assert border.max() == 0
    side, front, top = (view.amax(0) > 0 for view in views)
    # A bird is longer than it is wide: from the side and from above its silhouette is wider than from the front.
    assert side.any(0).sum() > 2 * front.any(0).sum()
    assert top.any(0).sum() > 2 * front.any(0).sum()
    assert side.any(0).sum() > 0.85 * 48


def test_views_need_a_rotation(mesh: Mesh) -> None:
    with pytest.raises(ValueError, match="at least one rotation"):
        mesh_views(mesh, 16, rotations=torch.zeros(0, 3, 3))


def test_views_from_a_camera_and_turned_from_there(mesh: Mesh, side_camera: Camera) -> None:
    turns = axis_angle_to_matrix(math.pi / 2 * torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    views = mesh_views(mesh, 48, rotations=turns @ side_camera.rotation, background=0.0)
    assert views.shape == (3, 3, 48, 48)
    seen, _ = shaded_mesh(mesh, side_camera._replace(scale=torch.tensor(0.4), translation=torch.zeros(2)), 48)
    spans = []
    for picture in (views[0], seen):
        rows, columns = (picture.amax(0) > 0.05).nonzero().unbind(-1)
        spans.append((columns.max() - columns.min() + 1) / (rows.max() - rows.min() + 1))
    assert spans[0] == pytest.approx(spans[1].item(), rel=0.1)
    # All at one scale: seen from the front of its side, a bird is as high as from there, and less wide.
    side, right, _ = (view.amax(0) > 0.05 for view in views)
    assert abs(side.any(1).sum() - right.any(1).sum()) <= 1
    assert right.any(0).sum() < 0.7 * side.any(0).sum()
    assert views[:, :, 0].max() == 0


def test_the_viewer_goes_to_the_right_and_up() -> None:
    # A red vertex lies to the right of the others, a green one above.
    vertices = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.3], [-0.2, 0.2, 0.0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    colors = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 0, 1.0]])
    turns = axis_angle_to_matrix(math.pi / 2 * torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]))
    right, above = mesh_views(Mesh(vertices, faces, vertex_colors=colors), 64, rotations=turns, background=0.0)
    shares = [(view.sum((1, 2)) / view.sum()).tolist() for view in (right, above)]
    assert shares[0][0] > shares[1][0]
    assert shares[1][1] > shares[0][1]


def test_a_turntable_goes_round_once(mesh: Mesh) -> None:
    frames = turntable(mesh, 32, num_frames=4, elevation=0.0)
    assert frames.shape == (4, 3, 32, 32)
    covered = (frames < 0.99).any(1)
    # Half a turn later the silhouette is the mirror image.
    assert (covered[0] ^ covered[2].flip(-1)).float().mean() < 0.02
    # From the side the bird is as long as it can be, from the front it is not.
    assert covered[0].any(0).sum() > 1.3 * covered[1].any(0).sum()
    assert not torch.equal(frames[1], frames[3])


def test_a_turntable_stays_in_its_frame(mesh: Mesh) -> None:
    frames = turntable(mesh._replace(vertices=mesh.vertices + 5), 48, num_frames=5, background=0.0)
    edge = torch.cat((frames[..., 0], frames[..., -1], frames[:, :, 0], frames[:, :, -1]), -1)
    assert edge.max() == 0 < frames.amax((1, 2, 3)).min()
    with pytest.raises(ValueError, match="at least one frame"):
        turntable(mesh, num_frames=0)
