import math

import pytest
import torch
from torch.nn.functional import normalize

from kpose.geometry.camera import project
from kpose.geometry.rotation import geodesic_distance, random_rotation, viewpoint_to_matrix
from kpose.reconstruction.appearance import (
    AppearanceView,
    appearance_view,
    choose_by_appearance,
    expected_distance,
    principal_components,
)
from kpose.rendering import vertex_visibility
from kpose.structures import Camera, Mesh
from kpose.templates import bird, coarsen_template

IMAGES, CAMERAS, CELLS = 40, 6, 14


@pytest.fixture(scope="module")
def template():
    return coarsen_template(bird(), 100)


@pytest.fixture(scope="module")
def painted(template):
    """Maps of a category with one feature a vertex, seen by the true camera; the others are at random."""
    generator = torch.Generator().manual_seed(0)
    azimuth = torch.rand(IMAGES, CAMERAS, generator=generator) * 2 * math.pi
    rotation = viewpoint_to_matrix(azimuth, azimuth * 0 + 0.1, azimuth * 0)
    cameras = Camera(torch.full((IMAGES, CAMERAS), 0.75), torch.zeros(IMAGES, CAMERAS, 2), rotation)
    truth = torch.randint(CAMERAS, (IMAGES,), generator=generator)
    own = torch.randn(len(template.vertices), 12, generator=generator)
    own = own + own[template.mirror]
    maps = torch.randn(IMAGES, 12, CELLS, CELLS, generator=generator) * 0.3
    mesh = Mesh(template.vertices, template.faces)
    rows = torch.arange(IMAGES)
    true = Camera(*(part[rows, truth] for part in cameras))
    seen = vertex_visibility(mesh, true, size=48)
    places = ((project(template.vertices.expand(IMAGES, -1, -1), true) + 1) / 2 * CELLS).long().clamp(0, CELLS - 1)
    for image in range(IMAGES):
        column, row = places[image, seen[image]].unbind(-1)
        maps[image, :, row, column] += own[seen[image]].mT
    return maps, cameras, truth


def view_of(template, maps, cameras):
    components = principal_components(maps, torch.ones(IMAGES, CELLS, CELLS), 8)
    return appearance_view(Mesh(template.vertices, template.faces), cameras, maps, components)


def test_cameras_that_agree_are_believed(template, painted):
    maps, cameras, truth = painted
    view = view_of(template, maps, cameras)
    # Silhouettes know a little: the true camera is among the better half.
    losses = torch.rand(IMAGES, CAMERAS, generator=torch.Generator().manual_seed(1))
    losses[torch.arange(IMAGES), truth] *= 0.5
    by_silhouette = (losses.argmin(-1) == truth).float().mean()
    choice = choose_by_appearance([view], cameras.rotation, losses, template.mirror, temperature=0.5)
    assert by_silhouette < 0.6
    assert (choice.belief.argmax(-1) == truth).float().mean() > 0.9
    assert (choice.agreement.argmax(-1) == truth).float().mean() > 0.8
    torch.testing.assert_close(choice.belief.sum(-1), torch.ones(IMAGES))
    torch.testing.assert_close(choice.means, choice.means[template.mirror])


def test_views_show_visible_vertices_where_they_are(template):
    camera = Camera(torch.full((1, 1), 0.8), torch.zeros(1, 1, 2), random_rotation((1, 1)))
    ramp = torch.arange(196.0).reshape(1, 1, 14, 14)
    maps = torch.cat((ramp, ramp.mT), 1)
    identity = (torch.zeros(2), torch.eye(2))
    view = appearance_view(Mesh(template.vertices, template.faces), camera, maps, identity)
    assert view.features.shape == (1, 28 * 28 + 1, 2)
    assert not view.features[0, -1].any()
    seen = vertex_visibility(Mesh(template.vertices, template.faces), camera, size=48)[0, 0]
    cells = view.cells[0, 0].long()
    assert torch.equal(cells < 28 * 28, seen)
    points = project(template.vertices, Camera(*(part[0, 0] for part in camera)))[seen]
    centres = torch.stack((cells[seen] % 28, cells[seen] // 28), -1) * (2 / 28) - 1 + 1 / 28
    assert (centres - points).abs().max() <= 1 / 28 + 1e-5


def test_expected_distances_are_those_of_a_sum():
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotation((3, 5), generator=generator)
    belief = torch.softmax(torch.randn(3, 5, generator=generator), -1)
    pairs = rotations[:, :, None].expand(3, 5, 5, 3, 3)
    angles = geodesic_distance(pairs, pairs.transpose(1, 2))
    expected = (belief[:, None] * (angles / 2).sin().square()).sum(-1)
    torch.testing.assert_close(expected_distance(rotations, belief), expected, atol=1e-6, rtol=1e-5)


def test_a_crowd_outweighs_a_single_favourite():
    angles = torch.tensor([0.0, 3.1, 3.0, 3.2])
    rotations = viewpoint_to_matrix(angles, 0 * angles, 0 * angles)[None]
    losses = expected_distance(rotations, torch.tensor([[0.28, 0.24, 0.24, 0.24]]))
    assert losses.argmin().item() == 1


def test_components_are_those_of_the_covered_cells():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 6, 4, 4, generator=generator)
    cover = torch.rand(5, 4, 4, generator=generator)
    mean, basis = principal_components(maps, cover, 3)
    samples = maps.permute(0, 2, 3, 1)[cover >= 0.5]
    torch.testing.assert_close(mean, samples.mean(0), atol=1e-5, rtol=1e-5)
    variance = torch.cov(((samples - mean) @ basis).mT, correction=0)
    torch.testing.assert_close(variance, torch.eye(3), atol=1e-4, rtol=1e-4)


def test_nothing_to_learn_from_is_refused(template):
    with pytest.raises(ValueError, match="all masks are empty"):
        principal_components(torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4))
    view = AppearanceView(normalize(torch.rand(1, 5, 3), dim=-1), torch.zeros(1, 2, 100, dtype=torch.int32))
    with pytest.raises(ValueError, match="a view and a round"):
        choose_by_appearance([], torch.eye(3).expand(1, 2, 3, 3), torch.rand(1, 2), template.mirror)
    with pytest.raises(ValueError, match="a view and a round"):
        choose_by_appearance([view], torch.eye(3).expand(1, 2, 3, 3), torch.rand(1, 2), template.mirror, rounds=0)
