import dataclasses

import pytest
import torch

from kpose.geometry.camera import flip_camera, project
from kpose.geometry.heatmap import gaussian_heatmaps
from kpose.geometry.rotation import geodesic_distance
from kpose.geometry.sampling import mirror_permutation
from kpose.heads import KeypointHead
from kpose.structures import Features, FeatureSpec
from kpose.templates import bird
from kpose.testing import example_batch

SPEC = FeatureSpec((8, 16), (4, 8))


class Oracle(torch.nn.Module):
    """Draws the heatmaps that it was given instead of predicting them."""

    def __init__(self, *maps):
        super().__init__()
        self.maps = list(maps)

    def forward(self, features):
        return self.maps


def features(size):
    return Features((torch.randn(size, 8, 32, 32), torch.randn(size, 16, 16, 16)))


def true_heatmaps(head, camera, size=64):
    points = head.template_vertices[head.keypoint_indices].expand(len(camera.scale), -1, -1)
    return gaussian_heatmaps(project(points, camera), (size, size), head.sigma)


def test_perfect_heatmaps_give_the_camera():
    head = KeypointHead(SPEC).eval()
    camera = example_batch(4)["camera"]
    head.network = Oracle(true_heatmaps(head, camera))
    prediction = head(features(4))
    assert geodesic_distance(prediction.camera.rotation, camera.rotation).rad2deg().max() < 1
    assert torch.allclose(prediction.camera.scale, camera.scale, atol=0.01)
    assert torch.allclose(prediction.camera.translation, camera.translation, atol=0.01)
    assert prediction.valid.all()
    losses = head.losses(prediction, example_batch(4))
    assert losses["heatmap"] < 1e-6


def test_wild_peaks_are_outvoted():
    head = KeypointHead(SPEC).eval()
    camera = example_batch(4)["camera"]
    maps = true_heatmaps(head, camera)
    maps[:, ::5] = gaussian_heatmaps(torch.rand(4, len(maps[0, ::5]), 2) * 2 - 1, (64, 64))
    head.network = Oracle(maps)
    prediction = head(features(4))
    assert geodesic_distance(prediction.camera.rotation, camera.rotation).rad2deg().max() < 5
    assert prediction.inliers[:, 1::5].float().mean() > 0.9


def test_empty_heatmaps_give_a_flagged_finite_camera():
    head = KeypointHead(SPEC).eval()
    head.network = Oracle(torch.zeros(2, 48, 16, 16))
    prediction = head(features(2))
    assert not prediction.valid.any()
    assert all(part.isfinite().all() for part in prediction.camera)


def test_keypoints_are_closed_under_mirroring():
    head = KeypointHead(SPEC)
    assert len(head.keypoint_indices.unique()) == 48
    permutation = mirror_permutation(head.keypoint_indices, bird().mirror)
    camera = example_batch(3)["camera"]
    points = head.template_vertices[head.keypoint_indices].expand(3, -1, -1)
    mirrored = project(points, flip_camera(camera))[:, permutation] * torch.tensor([-1.0, 1.0])
    assert torch.allclose(mirrored, project(points, camera), atol=1e-4)


def test_points_and_template_travel_with_the_checkpoint():
    first, second = KeypointHead(SPEC, seed=0), KeypointHead(SPEC, seed=1)
    assert not torch.equal(first.keypoint_indices, second.keypoint_indices)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.keypoint_indices, second.keypoint_indices)
    assert {"keypoint_indices", "template_vertices"} <= first.state_dict().keys()


def test_given_vertices_are_the_ones_that_are_solved_for():
    head = KeypointHead(SPEC).eval()
    camera = example_batch(2)["camera"]
    head.network = Oracle(true_heatmaps(head, camera))
    half = 0.5 * head.template_vertices.expand(2, -1, -1)
    assert torch.allclose(head(features(2), half).camera.scale, 2 * camera.scale, atol=0.02)


def test_visibility_weighs_far_side_and_outside():
    head = KeypointHead(SPEC, occluded_weight=0.25)
    batch = example_batch(3)
    vertices = head.template_vertices.expand(3, -1, -1)
    camera = batch["camera"]._replace(translation=torch.tensor([[0.0, 0.0], [0.9, 0.0], [5.0, 0.0]]))
    keypoints = project(vertices[:, head.keypoint_indices], camera)
    weights = head.visibility(vertices, camera, keypoints)
    assert set(weights[0].unique().tolist()) <= {0.0, 0.25, 1.0}
    assert 0.25 < (weights[0] == 1).float().mean() < 0.75
    assert ((weights[1] == 0) == (keypoints[1].abs() >= 1).any(-1)).all()
    assert (weights[2] == 0).all()
    head.occluded_weight = 1.0
    assert (head.visibility(vertices, camera, keypoints)[0] == 1).all()


def test_images_without_any_point_in_sight_do_not_train():
    head = KeypointHead(SPEC)
    batch = example_batch(2)
    batch["camera"] = batch["camera"]._replace(translation=torch.full((2, 2), 9.0))
    loss = head.losses(head(features(2)), batch)["heatmap"]
    loss.backward()
    assert loss == 0


def test_deep_supervision_reads_the_stages():
    head = KeypointHead(SPEC, num_keypoints=8, width=8, deep_weight=0.5)
    batch = example_batch(2)
    prediction = head(features(2))
    assert [tuple(m.shape[-2:]) for m in prediction.stages] == [(16, 16)]
    losses = head.losses(prediction, batch)
    none = head.losses(dataclasses.replace(prediction, stages=(0 * prediction.stages[0],)), batch)
    assert losses.keys() == {"heatmap", "deep"}
    assert none["deep"].item() == pytest.approx(0.5, abs=1e-5)
