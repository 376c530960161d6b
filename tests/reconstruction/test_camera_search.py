import math

import pytest
import torch

from kpose.geometry import geodesic_distance, viewpoint_to_matrix
from kpose.reconstruction import SearchLevel, ViewpointGrid, search_cameras
from kpose.rendering import CompositeRenderer, HardRenderer
from kpose.structures import Camera, Mesh
from kpose.templates import bird
from kpose.templates._coarsen import coarsen_template

RANGES = torch.tensor([math.pi / 6, math.pi / 6, math.pi / 3])
LEVELS = (SearchLevel(24, 15, 0.1, 4e-4), SearchLevel(40, 25, 0.1, 1e-4))


def renderer(sigma: float) -> CompositeRenderer:
    return CompositeRenderer(sigma, cull_back_faces=True)


@pytest.fixture(scope="module")
def mesh():
    template = coarsen_template(bird(), 160)
    return Mesh(template.vertices, template.faces)


@pytest.fixture(scope="module")
def truth():
    azimuth, elevation = torch.tensor([0.9, -1.8, 2.7]), torch.tensor([0.15, -0.1, 0.3])
    rotation = viewpoint_to_matrix(azimuth, elevation, torch.tensor([0.1, -0.2, 0.0]))
    return Camera(torch.tensor([0.7, 0.8, 0.75]), torch.tensor([[0.05, 0.1], [-0.1, 0.0], [0.0, 0.1]]), rotation)


@pytest.fixture(scope="module")
def found(mesh, truth):
    masks = HardRenderer().silhouette(mesh, truth, 96)
    start = Camera(
        torch.full((3, 10), 0.8),
        torch.zeros(3, 10, 2),
        ViewpointGrid(azimuths=10, elevations=1).rotations().expand(3, 10, 3, 3),
    )
    return search_cameras(mesh, start, masks, ranges=RANGES, renderer=renderer, levels=LEVELS, gain=0.3)


def test_one_of_the_cameras_comes_near_the_true_one(found, truth):
    cameras, losses = found
    errors = geodesic_distance(cameras.rotation, truth.rotation[:, None].expand(3, 10, 3, 3)).rad2deg()
    assert errors.amin(1).max() < 12
    near = errors.argmin(1)
    rows = torch.arange(3)
    torch.testing.assert_close(cameras.scale[rows, near], truth.scale, atol=0.06, rtol=0)
    assert (losses[rows, near] < losses.median(1).values).all()


def test_losses_are_those_of_the_cameras(found, mesh, truth):
    cameras, losses = found
    masks = HardRenderer().silhouette(mesh, truth, 96)
    still = SearchLevel(40, 0, 0.1, 1e-4)
    same, again = search_cameras(mesh, cameras, masks, ranges=RANGES, renderer=renderer, levels=(still,), gain=0.3)
    torch.testing.assert_close(again, losses)
    torch.testing.assert_close(same.rotation, cameras.rotation)


def test_an_image_is_searched_as_if_it_were_alone(mesh, truth):
    masks = HardRenderer().silhouette(mesh, truth, 96)
    start = Camera(
        torch.full((3, 10), 0.8),
        torch.zeros(3, 10, 2),
        ViewpointGrid(azimuths=10, elevations=1).rotations().expand(3, 10, 3, 3),
    )
    one = Camera(*(part[1:2] for part in start))
    few = (SearchLevel(24, 5, 0.1, 4e-4),)  # later, rounding decides where some cameras go
    options = {"ranges": RANGES, "renderer": renderer, "levels": few, "gain": 0.3}
    cameras, losses = search_cameras(mesh, start, masks, **options)
    alone, its = search_cameras(mesh, one, masks[1:2], **options)
    torch.testing.assert_close(its[0], losses[1], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(alone.rotation[0], cameras.rotation[1], atol=1e-3, rtol=0)


def test_an_empty_mask_gives_finite_cameras(mesh):
    start = Camera(torch.full((1, 2), 0.8), torch.zeros(1, 2, 2), ViewpointGrid(2, 1).rotations()[None])
    cameras, losses = search_cameras(
        mesh,
        start,
        torch.zeros(1, 24, 24),
        ranges=RANGES,
        renderer=renderer,
        levels=(SearchLevel(24, 3),),
    )
    assert all(part.isfinite().all() for part in (*cameras, losses))


def test_a_search_needs_a_level(mesh, truth):
    with pytest.raises(ValueError, match="at least one level"):
        search_cameras(mesh, truth, torch.zeros(3, 8, 8), ranges=RANGES, renderer=renderer, levels=())
