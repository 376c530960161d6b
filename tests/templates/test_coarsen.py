import pytest
import torch

from kpose.geometry import mask_iou
from kpose.geometry._mesh import volume
from kpose.reconstruction import ViewpointGrid
from kpose.rendering import HardRenderer
from kpose.structures import Camera, Mesh
from kpose.templates import bird
from kpose.templates._coarsen import coarsen_template


@pytest.fixture(scope="module")
def coarse():
    return coarsen_template(bird(), 160)


def test_the_outline_is_kept(coarse):
    camera = Camera(torch.full((40,), 0.8), torch.zeros(40, 2), ViewpointGrid().rotations())
    whole = bird()
    fine = HardRenderer().silhouette(Mesh(whole.vertices, whole.faces), camera, 64)
    rough = HardRenderer().silhouette(Mesh(coarse.vertices, coarse.faces), camera, 64)
    assert mask_iou(rough, fine).min() > 0.93


def test_it_is_symmetric_and_wound_outwards(coarse):
    mirrored = coarse.vertices[coarse.mirror] * torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(mirrored, coarse.vertices, atol=1e-5, rtol=0)
    faces = {frozenset(face) for face in coarse.faces.tolist()}
    kept = sum(frozenset(face) in faces for face in coarse.mirror[coarse.faces].tolist())
    assert kept > 0.97 * len(coarse.faces)  # faces across the symmetry plane may go either way
    assert volume(coarse.vertices, coarse.faces) > 0.9 * volume(bird().vertices, bird().faces)


def test_vertices_are_the_originals_and_parts_stay_near(coarse):
    whole = bird()
    distance = torch.cdist(coarse.vertices, whole.vertices).amin(1)
    assert distance.max() < 1e-3
    moved = coarse.vertices[coarse.part_vertices] - whole.vertices[whole.part_vertices]
    assert moved.norm(dim=-1).max() < 0.3
    assert coarse.part_names == whole.part_names


def test_enough_vertices_change_nothing():
    assert coarsen_template(bird(), 10_000).vertices.equal(bird().vertices)


def test_too_few_are_refused():
    with pytest.raises(ValueError, match="at least 8"):
        coarsen_template(bird(), 3)
