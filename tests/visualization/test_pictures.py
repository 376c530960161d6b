import math

import pytest
import torch
from PIL import Image
from torch import Tensor

from kpose.geometry import project, viewpoint_to_matrix
from kpose.rendering import HardRenderer, SoftRenderer
from kpose.structures import Camera, Mesh
from kpose.templates import bird, template_mesh
from kpose.visualization import (
    draw_keypoints,
    from_pillow,
    heatmap_image,
    image_grid,
    mesh_views,
    overlay,
    overlay_mesh,
    paint_by_photo,
    shaded_mesh,
    to_pillow,
    turned_views,
)


def is_picture(image: Tensor, height: int, width: int) -> bool:
    return image.shape == (3, height, width) and bool(((image >= 0) & (image <= 1)).all())


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


def test_only_a_mesh_with_colours_of_its_own_is_outlined(mesh: Mesh, side_camera: Camera) -> None:
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


def test_the_side_under_the_light_is_brighter(mesh: Mesh) -> None:
    rotation = viewpoint_to_matrix(torch.tensor(math.pi / 2), torch.tensor(0.0), torch.tensor(0.0))
    rgb, mask = shaded_mesh(mesh, Camera(torch.tensor(0.8), torch.zeros(2), rotation), 64)
    column = mask[:, 32] > 0.99
    top, bottom = column.nonzero()[[2, -3], 0]
    assert rgb[0, top, 32] > 1.3 * rgb[0, bottom, 32]


def test_a_mesh_keeps_its_own_colours(mesh: Mesh) -> None:
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
    picture = mesh_views(mesh, 48, background=0.0)
    assert is_picture(picture, 48, 144)
    border = torch.cat((picture[:, 0].flatten(), picture[:, -1].flatten(), picture[:, :, ::48].flatten()))
    assert border.max() == 0
    side, front, top = (view.amax(0) > 0 for view in picture.split(48, -1))
    # A bird is longer than it is wide: from the side and from above its silhouette is wider than from the front.
    assert side.any(0).sum() > 2 * front.any(0).sum()
    assert top.any(0).sum() > 2 * front.any(0).sum()


def test_views_need_a_viewpoint(mesh: Mesh) -> None:
    with pytest.raises(ValueError, match="at least one viewpoint"):
        mesh_views(mesh, 16, viewpoints=[])


def test_turned_views_begin_with_what_the_camera_sees(mesh: Mesh, side_camera: Camera) -> None:
    views = turned_views(mesh, side_camera.rotation, 48, background=0.0)
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
    with pytest.raises(ValueError, match="at least one turn"):
        turned_views(mesh, side_camera.rotation, turns=[])


def test_the_viewer_goes_to_the_right_and_up() -> None:
    # A red vertex lies to the right of the others, a green one above.
    vertices = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 0.0], [0.0, 0.0, 0.3], [-0.2, 0.2, 0.0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [1, 3, 2]])
    colors = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [0, 0, 1.0]])
    _, right, above = turned_views(Mesh(vertices, faces, vertex_colors=colors), torch.eye(3), 64, background=0.0)
    shares = [(view.sum((1, 2)) / view.sum()).tolist() for view in (right, above)]
    assert shares[0][0] > shares[1][0]
    assert shares[1][1] > shares[0][1]


def test_the_texture_of_a_photo_is_what_it_shows() -> None:
    shape = bird()
    mesh = template_mesh(shape)._replace(uv=shape.uv, uv_faces=shape.uv_faces)
    rotation = viewpoint_to_matrix(torch.tensor(math.pi / 2), torch.tensor(0.0), torch.tensor(0.0))
    camera = Camera(torch.tensor(0.8), torch.zeros(2), rotation)
    photo = torch.zeros(3, 64, 64)
    photo[0, :32], photo[2, 32:] = 1.0, 1.0  # red above, blue below
    painted = paint_by_photo(mesh, photo, camera)
    assert painted.texture is not None
    # From the same side the picture is the photo; from the other one it is as the mirror image.
    turned = torch.tensor([[1.0], [1.0], [-1.0]]) * rotation * torch.tensor([-1.0, 1.0, 1.0])
    for view in (camera, camera._replace(rotation=turned)):
        drawn = HardRenderer().render(painted, view, 64)
        assert drawn.rgb is not None
        inner = -torch.nn.functional.max_pool2d(-drawn.mask[None], 5, 1, 2)[0] > 0
        inner[30:34] = False
        assert inner.sum() > 200
        difference = (drawn.rgb - photo).abs().amax(0)[inner]
        assert (difference < 0.05).float().mean() > 0.95
    away = paint_by_photo(mesh, photo, camera._replace(translation=torch.tensor([9.0, 9.0])))
    assert away.texture is not None
    assert away.texture.unique().tolist() == [0.5]
    with pytest.raises(ValueError, match="needs a mesh with uv"):
        paint_by_photo(mesh._replace(uv=None, uv_faces=None), photo, camera)


def test_keypoints_are_drawn_at_their_pixels() -> None:
    picture = draw_keypoints(torch.ones(3, 40, 60), torch.tensor([[45.5, 10.5]]))
    assert is_picture(picture, 40, 60)
    rows, columns = (picture.amin(0) < 0.9).nonzero().float().unbind(-1)
    assert rows.mean().item() + 0.5 == pytest.approx(10.5)
    assert columns.mean().item() + 0.5 == pytest.approx(45.5)


def test_confidence_sets_the_colour_and_the_order() -> None:
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


def test_heatmaps_keep_their_place() -> None:
    maps = torch.zeros(3, 16, 16)
    maps[1, 4, 12] = 2.0
    maps[2, 9, 2] = -1.0
    picture = heatmap_image(maps, size=(64, 96))
    assert is_picture(picture, 64, 96)
    brightest = picture.sum(0).argmax().item()
    assert (brightest // 96) // 4 == 4
    assert (brightest % 96) // 6 == 12
    assert heatmap_image(maps).shape == (3, 16, 16)


def test_grid_puts_pictures_in_rows() -> None:
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 10, 20)
    blue = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 10, 20)
    sheet = image_grid([red, blue, blue], columns=2, gap=2)
    assert is_picture(sheet, 28, 48)
    assert sheet[:, 7, 12].equal(red[:, 0, 0])
    assert sheet[:, 7, 36].equal(blue[:, 0, 0])
    assert sheet[:, 21, 36].equal(torch.ones(3))


def test_grid_labels_are_cut_to_the_cell() -> None:
    images = [torch.zeros(3, 12, 40), torch.zeros(3, 8, 30)]
    sheet = image_grid(images, ["short", "a label that does not fit under its picture"], columns=2, gap=0)
    assert is_picture(sheet, 30, 80)
    assert sheet[:, 12:].min() < 0.5  # text


@pytest.mark.parametrize(("images", "labels"), [([], None), ([torch.zeros(3, 4, 4)], ["a", "b"])])
def test_grid_needs_a_label_for_each_picture(images: list, labels: list | None) -> None:
    with pytest.raises(ValueError, match="image_grid needs pictures"):
        image_grid(images, labels)


def test_pillow_round_trip() -> None:
    picture = Image.effect_noise((7, 5), 90).convert("RGB")
    assert to_pillow(from_pillow(picture)).tobytes() == picture.tobytes()
    assert to_pillow(torch.full((3, 2, 2), math.nan)).getpixel((0, 0)) == (0, 0, 0)
    assert to_pillow(torch.full((3, 2, 2), 7.0)).getpixel((0, 0)) == (255, 255, 255)
