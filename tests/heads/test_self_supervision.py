import itertools

import pytest
import torch
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from kpose.geometry import farthest_point_sampling, project
from kpose.geometry._heatmap import gaussian_heatmaps
from kpose.geometry._mesh import edges
from kpose.heads import SelfSupervision
from kpose.heads.self_supervision import _label_faces, _surface_distances
from kpose.structures import Camera, Template
from kpose.templates import bird
from kpose.testing import example_batch

FRONT = Camera(torch.ones(1), torch.zeros(1, 2), torch.eye(3)[None])
"""Looks along +z, at what has the least z."""


def template(vertices, faces):
    vertices = torch.tensor(vertices)
    nothing = torch.zeros(0, dtype=torch.long)
    return Template(vertices, torch.tensor(faces), torch.zeros(0, 2), nothing.view(0, 3), nothing, (), nothing)


def two_sheets():
    """A square at z = 0 cut by its diagonal, and a small one behind it at z = 1."""
    near = [[-0.8, -0.8, 0.0], [0.8, -0.8, 0.0], [-0.8, 0.8, 0.0], [0.8, 0.8, 0.0]]
    far = [[-0.4, -0.4, 1.0], [0.4, -0.4, 1.0], [-0.4, 0.4, 1.0], [0.4, 0.4, 1.0]]
    return template(near + far, [[0, 2, 1], [1, 2, 3], [4, 6, 5], [5, 6, 7]])


def block_of(shape, indices, **settings):
    return SelfSupervision(shape, torch.tensor(indices), **settings)


def test_faces_go_to_the_nearest_keypoint_along_the_surface():
    # A strip folded into a hairpin: its ends are close in space and far apart on the surface.
    length = [0.0, 1.0, 2.0, 3.0]
    points = [[x, y, 0.0] for x in length for y in (0.0, 1.0)] + [
        [x, y, 0.1] for x in (2.0, 1.0) for y in (0.0, 1.0)
    ]
    faces = [f for i in range(0, 10, 2) for f in ([i, i + 1, i + 2], [i + 1, i + 3, i + 2])]
    labels = _label_faces(torch.tensor(points), torch.tensor(faces), torch.tensor([2, 8]))
    # Straight through the air, the fourth face would be nearer to the second keypoint and the last to the first.
    assert labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_label_texture_of_a_square_cut_by_its_diagonal():
    block = block_of(two_sheets(), [0, 3, 4], resolution=8)
    vertices = two_sheets().vertices[None]
    labels = block.label_map(vertices, FRONT)[0]
    inner = torch.arange(1, 7)  # pixels with their center within ±0.8
    expected = torch.full((8, 8), -1)
    for row, column in itertools.product(inner.tolist(), repeat=2):
        if row + column != 7:  # the diagonal itself belongs to one of the two
            expected[row, column] = 0 if row + column < 7 else 1
    off_diagonal = torch.arange(8)[:, None] + torch.arange(8) != 7
    assert torch.equal(labels[off_diagonal], expected[off_diagonal])


def test_what_keypoints_of_two_sheets_show():
    # Vertex 4 lies behind the near sheet, on the side of keypoint 0; shrunk, the others lie inside the image.
    shape = two_sheets()
    block = block_of(shape, [0, 3, 4, 5], resolution=64)
    camera = FRONT._replace(translation=torch.tensor([[1e-3, 1e-3]]))  # corners fall on the sheet, not beside it
    shrunk = shape.vertices.clone()
    block.labels[:2] = torch.tensor([0, 1])
    assert block.shown(shrunk[None], camera)[0, 2] == 0  # shows the part of keypoint 0, hidden behind it
    assert block.weights(shrunk[None], camera).dtype == torch.bool
    assert not block.weights(shrunk[None], camera)[0, 2]


def test_from_behind_the_far_sheet_is_seen():
    shape = two_sheets()
    block = block_of(shape, [0, 3, 4, 7], resolution=64)
    behind = Camera(torch.ones(1), torch.zeros(1, 2), torch.diag(torch.tensor([-1.0, 1.0, -1.0]))[None])
    assert block.visibility(shape.vertices[None], behind)[0, 2:].all()
    labels = block.label_map(shape.vertices[None], behind, (4, 6))
    assert labels.shape == (1, 4, 6)
    assert set(labels[0, 1:3, 2:4].unique().tolist()) <= {2, 3}


def test_points_outside_the_image_have_no_weight():
    shape = bird()
    indices = farthest_point_sampling(shape.vertices, 16, generator=torch.Generator().manual_seed(0))
    block = SelfSupervision(shape, indices)
    camera = example_batch(3)["camera"]
    camera = camera._replace(translation=torch.tensor([[0.8, 0.0], [0.0, -5.0], [0.0, 0.9]]))
    vertices = shape.vertices.expand(3, -1, -1)
    outside = (project(vertices[:, indices], camera).abs() >= 1).any(-1)
    assert outside[1].all()
    assert outside[[0, 2]].any()
    assert (block.shown(vertices, camera)[outside] == -1).all()
    assert not block.weights(vertices, camera)[outside].any()
    assert not block.visibility(vertices, camera)[outside].any()


def birds(count, num_keypoints, resolution=128):
    shape = bird()
    generator = torch.Generator().manual_seed(0)
    indices = farthest_point_sampling(shape.vertices, num_keypoints, generator=generator, mirror=shape.mirror)
    block = SelfSupervision(shape, indices, resolution=resolution)
    return block, shape.vertices.expand(count, -1, -1), example_batch(count)["camera"]


# Fewer keypoints, larger parts: their borders are coarser.
@pytest.mark.parametrize(("num_keypoints", "distance"), [(8, 2), (16, 2), (48, 1)])
def test_label_texture_and_z_buffer_agree_away_from_silhouettes_and_part_borders(num_keypoints, distance):
    block, vertices, camera = birds(64, num_keypoints)
    weights, visible = block.weights(vertices, camera), block.visibility(vertices, camera)
    labels = block.label_map(vertices, camera)
    # Away from them is where the pixel of the projection and its neighbors all show one part.
    side = 2 * distance + 1
    padded = torch.nn.functional.pad(labels.float()[:, None], (distance,) * 4, mode="replicate")
    around = padded.unfold(2, side, 1).unfold(3, side, 1).flatten(-2)[:, 0]
    calm = around.amax(-1) == around.amin(-1)
    column, row = ((block.project(vertices, camera) + 1) / 2 * 128).long().clamp(0, 127).unbind(-1)
    away = calm[torch.arange(64)[:, None], row, column]
    agreement = (weights == visible)[away].float().mean()
    assert away.sum() > 100
    assert agreement >= 0.99
    assert 0.7 < (weights == visible).float().mean() < 1


def test_targets_are_equation_4():
    block, vertices, camera = birds(2, 8)
    keypoints = block.project(vertices, camera)
    heatmaps = block.heatmaps(keypoints, (24, 40))
    x = (2 * torch.arange(40) + 1) / 40 - 1
    y = (2 * torch.arange(24) + 1) / 24 - 1
    u, v = keypoints[1, 5]
    expected = torch.exp(-((x[None] - u) ** 2 + (y[:, None] - v) ** 2) / (2 * 0.05**2))
    assert torch.allclose(heatmaps[1, 5], expected, atol=1e-6)


def test_gaussians_of_coarse_maps_are_half_a_cell_wide_at_least():
    block, vertices, camera = birds(1, 8)
    keypoints = block.project(vertices, camera)
    assert torch.equal(block.heatmaps(keypoints, (8, 8)), gaussian_heatmaps(keypoints, (8, 8), 1 / 8))


def test_the_parts_travel_with_the_checkpoint():
    shape = bird()
    first, second = block_of(shape, [0, 50, 100]), block_of(shape, [3, 9, 27])
    assert not torch.equal(first.labels, second.labels)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.labels, second.labels)
    assert torch.equal(first.indices, second.indices)


def test_surface_distances_are_those_of_scipy():
    mesh = trimesh.creation.icosphere(subdivisions=2)
    vertices, faces = torch.tensor(mesh.vertices), torch.tensor(mesh.faces)
    pairs = edges(faces)
    length = (vertices[pairs[:, 0]] - vertices[pairs[:, 1]]).norm(dim=-1)
    graph = coo_matrix((length, (pairs[:, 0], pairs[:, 1])), (len(vertices), len(vertices)))
    expected = torch.from_numpy(dijkstra(graph, directed=False, indices=[0, 7, 90]))
    distances = _surface_distances(vertices, faces, torch.tensor([0, 7, 90]))
    assert torch.allclose(distances, expected)


def test_surface_distances_between_separate_pieces_are_infinite():
    vertices = torch.rand(6, 3)
    distances = _surface_distances(vertices, torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([4]))
    assert distances.isinf().tolist() == [[True, True, True, False, False, False]]
    assert distances[0, 4] == 0
