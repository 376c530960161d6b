import math

import pytest
import torch

from kpose.geometry import geodesic_distance, project, random_rotation, rotation_grid, viewpoint_to_matrix
from kpose.reconstruction.appearance import (
    expected_distance,
    expected_miss,
    pose_posterior,
    principal_components,
)
from kpose.reconstruction.template_views import (
    WINDOW_CELLS,
    cut_windows,
    placement_of_mask,
    silhouette_overlap,
    view_template,
)
from kpose.rendering import HardRenderer, vertex_visibility
from kpose.structures import Camera, Mesh
from kpose.templates import bird
from kpose.templates._coarsen import coarsen_template

IMAGES, CELLS = 60, 20


@pytest.fixture(scope="module")
def template():
    return coarsen_template(bird(), 100)


@pytest.fixture(scope="module")
def painted(template):
    """Pictures of a category with one feature a vertex, and noise: maps, masks and true rotations."""
    generator = torch.Generator().manual_seed(0)
    azimuth, elevation = torch.rand(2, IMAGES, generator=generator)
    rotation = viewpoint_to_matrix(azimuth * 2 * math.pi, elevation - 0.5, torch.zeros(IMAGES))
    camera = Camera(torch.full((IMAGES,), 0.75), torch.zeros(IMAGES, 2), rotation)
    own = torch.randn(len(template.vertices), 12, generator=generator)
    own = own + own[template.mirror]
    maps = torch.randn(IMAGES, 12, CELLS, CELLS, generator=generator) * 0.5
    mesh = Mesh(template.vertices, template.faces)
    seen = vertex_visibility(mesh, camera, size=48)
    places = (
        ((project(template.vertices.expand(IMAGES, -1, -1), camera) + 1) / 2 * CELLS).long().clamp(0, CELLS - 1)
    )
    for image in range(IMAGES):
        column, row = places[image, seen[image]].unbind(-1)
        maps[image, :, row, column] += own[seen[image]].mT
    return maps, HardRenderer().render(mesh, camera, 64).mask, rotation


@pytest.fixture(scope="module")
def compared(template, painted):
    """Features in windows, overlaps, and the views that they are compared with."""
    maps, mask, _ = painted
    placement = placement_of_mask(mask)
    views = view_template(Mesh(template.vertices, template.faces), rotation_grid(800))
    overlap = silhouette_overlap(cut_windows(mask[:, None], placement).flatten(1), views)
    return cut_windows(maps, placement).flatten(2), overlap, views


def errors(rotation, truth):
    return geodesic_distance(rotation, truth) * (180 / math.pi)


def test_rotations_that_show_the_same_are_probable(template, painted, compared):
    truth = painted[-1]
    features, overlap, views = compared
    by_silhouette = errors(views.rotations[overlap.argmax(-1)], truth)
    posterior = pose_posterior(features, overlap, views, template.mirror)
    grid = views.rotations.expand(IMAGES, -1, -1, -1)
    misses = expected_miss(grid, views.rotations, posterior.probability)
    by_both = errors(views.rotations[misses.argmin(-1)], truth)
    by_appearance = errors(views.rotations[posterior.similarity.argmax(-1)], truth)
    assert by_silhouette.mean() > 40
    assert by_both.mean() < 20
    assert (by_both > 60).sum() <= 2
    assert by_appearance.median() < 25
    torch.testing.assert_close(posterior.probability.sum(-1), torch.ones(IMAGES))
    torch.testing.assert_close(posterior.means, posterior.means[template.mirror])


def test_a_silhouette_that_is_weighed_more_decides_more(template, compared):
    features, overlap, views = compared
    seen = [
        (
            pose_posterior(features, overlap, views, template.mirror, silhouette_weight=weight).probability
            * overlap
        ).sum()
        for weight in (1.0, 6.0, 40.0)
    ]
    assert seen[0] < seen[1] < seen[2]


def test_what_suits_every_image_is_discounted(template, compared):
    features, overlap, views = compared
    plain, half, whole = (
        pose_posterior(features, overlap, views, template.mirror, rounds=1, hubness=share).similarity.mean(0)
        for share in (0.0, 0.5, 1.0)
    )
    torch.testing.assert_close(half, plain / 2, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(whole, torch.zeros_like(whole), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("shrinkage", "same"), [(1e-7, True), (10.0, False)])
def test_units_of_the_features_do_not_count_unless_shrunk(template, compared, shrinkage, same):
    features, overlap, views = compared
    units = torch.logspace(-1, 1, features.shape[1])[:, None]
    plain, scaled = (
        pose_posterior(
            given, overlap, views, template.mirror, rounds=1, discriminants=features.shape[1], shrinkage=shrinkage
        ).similarity
        for given in (features, features * units)
    )
    assert torch.allclose(plain, scaled, atol=1e-3) == same


@pytest.mark.parametrize(("discriminants", "least", "most"), [(12, 0, 20), (1, 30, 180)])
def test_loud_noise_is_left_out_and_too_few_directions_tell_too_little(
    template, painted, compared, discriminants, least, most
):
    features, overlap, views = compared
    noise = 30 * torch.randn(IMAGES, 8, features.shape[-1], generator=torch.Generator().manual_seed(1))
    heard = torch.cat((features, noise), 1)
    posterior = pose_posterior(heard, overlap, views, template.mirror, discriminants=discriminants, shrinkage=1e-4)
    misses = expected_miss(views.rotations.expand(IMAGES, -1, -1, -1), views.rotations, posterior.probability)
    assert least < errors(views.rotations[misses.argmin(-1)], painted[-1]).mean() < most


def test_images_that_show_nothing_leave_the_choice_to_silhouettes(template, compared):
    _, overlap, views = compared
    empty = torch.zeros(IMAGES, 4, WINDOW_CELLS**2)
    posterior = pose_posterior(empty, overlap, views, template.mirror, hubness=0.0, balance=0.0)
    assert torch.equal(posterior.probability.argmax(-1), overlap.argmax(-1))
    assert posterior.means.isfinite().all()


def test_expected_distances_are_those_of_a_sum():
    generator = torch.Generator().manual_seed(0)
    rotations = random_rotation((3, 5), generator=generator)
    probability = torch.softmax(torch.randn(3, 5, generator=generator), -1)
    pairs = rotations[:, :, None].expand(3, 5, 5, 3, 3)
    angles = geodesic_distance(pairs, pairs.transpose(1, 2))
    expected = (probability[:, None] * (angles / 2).sin().square()).sum(-1)
    torch.testing.assert_close(expected_distance(rotations, rotations, probability), expected, atol=1e-6, rtol=1e-5)


def test_misses_count_what_is_probable_nearby():
    generator = torch.Generator().manual_seed(0)
    rotations, candidates = (
        random_rotation((30,), generator=generator),
        random_rotation((20, 4), generator=generator),
    )
    probability = torch.softmax(torch.randn(20, 30, generator=generator), -1)
    angles = geodesic_distance(candidates[:, :, None].expand(20, 4, 30, 3, 3), rotations.expand(20, 4, 30, 3, 3))
    near = torch.exp(12.5 * (angles.cos() - 1))
    expected = 1 - (probability[:, None] * near).sum(-1)
    torch.testing.assert_close(expected_miss(candidates, rotations, probability), expected, atol=1e-5, rtol=0)
    assert math.isclose(math.exp(12.5 * (math.cos(math.radians(23.1)) - 1)), 1 / math.e, abs_tol=0.01)


def test_a_crowd_outweighs_a_single_favorite_in_distance_and_misses():
    angles = torch.tensor([0.0, 3.1, 3.0, 3.2])
    rotations = viewpoint_to_matrix(angles, 0 * angles, 0 * angles)
    probability = torch.tensor([[0.28, 0.24, 0.24, 0.24]])
    assert expected_distance(rotations[None], rotations[None], probability).argmin().item() == 1
    assert expected_miss(rotations[None], rotations, probability).argmin().item() == 1


def test_what_lies_between_two_poses_is_near_to_neither():
    angles = torch.tensor([-0.8, 0.0, 0.9])
    rotations = viewpoint_to_matrix(angles, 0 * angles, 0 * angles)
    probability = torch.tensor([[0.5, 0.0, 0.5]])
    assert expected_distance(rotations[None], rotations[None], probability).argmin().item() == 1
    assert expected_miss(rotations[None], rotations, probability).argmin().item() != 1


def test_balance_takes_from_what_is_probable_everywhere(template, compared):
    features, overlap, views = compared
    peaks = [
        pose_posterior(features, overlap, views, template.mirror, balance=share).probability.mean(0).square().sum()
        for share in (0.0, 0.5, 1.0)
    ]
    assert peaks[0] > peaks[1] > peaks[2]


def test_components_are_those_of_the_covered_cells():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(5, 6, 4, 4, generator=generator)
    cover = torch.rand(5, 4, 4, generator=generator)
    mean, basis = principal_components(zip(maps.split(3), cover.split(3), strict=True), 3)
    samples = maps.permute(0, 2, 3, 1)[cover >= 0.5]
    torch.testing.assert_close(mean, samples.mean(0), atol=1e-5, rtol=1e-5)
    variance = torch.cov(((samples - mean) @ basis).mT, correction=0)
    torch.testing.assert_close(variance, torch.eye(3), atol=1e-4, rtol=1e-4)


def test_nothing_to_learn_from_is_refused(template, compared):
    with pytest.raises(ValueError, match="all masks are empty"):
        principal_components([(torch.rand(2, 3, 4, 4), torch.zeros(2, 4, 4))])
    features, overlap, views = compared
    with pytest.raises(ValueError, match="needs a round; got 0"):
        pose_posterior(features, overlap, views, template.mirror, rounds=0)
