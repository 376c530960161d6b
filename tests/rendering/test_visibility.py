import torch
from rendering.scenes import IDENTITY, cameras, lumpy, sphere

from kpose.geometry import to_image_frame
from kpose.rendering import vertex_visibility
from kpose.structures import Camera, Mesh


def seen_by_rays(mesh, camera):
    """Test the ray of every vertex against every face that it is no corner of."""
    points = to_image_frame(mesh.vertices, camera)
    corners = points[mesh.faces]
    target = points[:, None]
    offset = corners[None, ..., :2] - target[..., None, :2]
    after = offset.roll(-1, -2)
    parts = (offset[..., 0] * after[..., 1] - offset[..., 1] * after[..., 0]).roll(-1, -1)
    weights = parts / parts.sum(-1, keepdim=True)
    own = (mesh.faces[None] == torch.arange(len(points))[:, None, None]).any(-1)
    hides = (weights > 0).all(-1) & ((weights * corners[..., 2]).sum(-1) < target[..., 2]) & ~own
    return ~hides.any(-1) & (points[:, :2].abs() <= 1).all(-1)


def test_agrees_with_rays():
    mesh, camera = lumpy(8), cameras(8)
    visible = vertex_visibility(mesh, camera, 256)
    expected = torch.stack(
        [
            seen_by_rays(mesh._replace(vertices=mesh.vertices[k]), Camera(*(part[k] for part in camera)))
            for k in range(8)
        ]
    )
    assert 0.2 < expected.float().mean() < 0.8
    assert (visible == expected).float().mean() > 0.98


def test_does_not_depend_on_the_size_of_the_object_in_the_image():
    mesh = sphere(3)
    large = cameras()._replace(translation=torch.zeros(2))
    small = large._replace(scale=large.scale / 50, translation=torch.tensor([0.3, -0.2]))
    first, second = vertex_visibility(mesh, large), vertex_visibility(mesh, small)
    assert 0.45 < first.float().mean() < 0.6
    assert (first == second).float().mean() > 0.99


def test_outside_the_image_nothing_is_seen():
    camera = IDENTITY._replace(translation=torch.tensor([1.0, 0.0]))
    visible = vertex_visibility(sphere(), camera)
    inside = sphere().vertices[:, 0] <= 0
    assert not visible[~inside].any()
    assert visible[inside].any()


def test_leading_dimensions_broadcast():
    assert vertex_visibility(lumpy(2, 1), cameras(2, 3), (32, 48)).shape == (2, 3, 162)
    assert vertex_visibility(Mesh(torch.zeros(0, 3, 3), torch.tensor([[0, 1, 2]])), cameras(0)).shape == (0, 3)
    point = Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
    assert not vertex_visibility(point, IDENTITY).any()
