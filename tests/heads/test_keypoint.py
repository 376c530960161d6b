import dataclasses

import pytest
import torch

from kpose.geometry import flip_camera, geodesic_distance, project
from kpose.geometry._heatmap import gaussian_heatmaps
from kpose.geometry._sampling import mirror_permutation
from kpose.heads import KeypointHead
from kpose.losses import DivergenceLoss, HeatmapLoss, PositionLoss
from kpose.structures import Features, FeatureSpec
from kpose.templates import bird
from kpose.testing import example_batch

SPEC = FeatureSpec((8, 16), (4, 8))


class Oracle(torch.nn.Module):
    """Draws the heatmaps that it was given instead of predicting them."""

    def __init__(self, maps, width=64):
        super().__init__()
        self.maps = maps
        self.width = width

    def forward(self, features):
        return [self.maps], torch.zeros(len(self.maps), self.width, 8, 8)


def features(size):
    return Features((torch.randn(size, 8, 32, 32), torch.randn(size, 16, 16, 16)))


def true_heatmaps(head, camera, size=64):
    points = head.template_vertices[head.keypoint_indices].expand(len(camera.scale), -1, -1)
    return gaussian_heatmaps(project(points, camera), (size, size), head.self_supervision.sigma)


def test_perfect_heatmaps_give_the_camera():
    head = KeypointHead(SPEC, bird()).eval()
    camera = example_batch(4)["camera"]
    head.network = Oracle(true_heatmaps(head, camera))
    prediction = head(features(4))
    assert geodesic_distance(prediction.camera.rotation, camera.rotation).rad2deg().max() < 1
    assert torch.allclose(prediction.camera.scale, camera.scale, atol=0.01)
    assert torch.allclose(prediction.camera.translation, camera.translation, atol=0.01)
    assert prediction.valid.all()
    losses = head.losses(prediction, example_batch(4))
    assert losses["heatmap"] < 1e-6


def test_the_camera_is_solved_for_when_it_is_read_and_once(monkeypatch):
    head = KeypointHead(SPEC, bird())
    calls, solve = [], head.solver.forward
    monkeypatch.setattr(head.solver, "forward", lambda *given: calls.append(given) or solve(*given))
    prediction = head(features(2))
    losses = head.losses(prediction, example_batch(2))
    torch.stack(list(losses.values())).sum().backward()
    assert not calls
    assert prediction.camera.rotation.shape == (2, 3, 3)
    assert prediction.inliers.shape == (2, 16)
    assert len(calls) == 1
    assert not prediction.camera.rotation.requires_grad
    with pytest.raises(AttributeError, match="KeypointPrediction has no attribute 'pose'"):
        _ = prediction.pose


def test_wild_peaks_are_outvoted():
    head = KeypointHead(SPEC, bird()).eval()
    camera = example_batch(16)["camera"]
    maps = true_heatmaps(head, camera)
    maps[:, ::5] = gaussian_heatmaps(torch.rand(16, len(maps[0, ::5]), 2) * 2 - 1, (64, 64))
    head.network = Oracle(maps)
    prediction = head(features(16))
    error = geodesic_distance(prediction.camera.rotation, camera.rotation).rad2deg()
    assert error.median() < 0.1
    # Of sixteen points the eight that are trusted have two wild ones, which now and then agree with others.
    assert (error < 5).float().mean() > 0.8
    assert prediction.inliers[:, 1::5].float().mean() > 0.9


def test_empty_heatmaps_give_a_flagged_finite_camera():
    head = KeypointHead(SPEC, bird()).eval()
    head.network = Oracle(torch.zeros(2, 16, 16, 16))
    prediction = head(features(2))
    assert not prediction.valid.any()
    assert all(part.isfinite().all() for part in prediction.camera)


def test_keypoints_are_closed_under_mirroring():
    head = KeypointHead(SPEC, bird())
    assert len(head.keypoint_indices.unique()) == 16
    permutation = mirror_permutation(head.keypoint_indices, bird().mirror)
    camera = example_batch(3)["camera"]
    points = head.template_vertices[head.keypoint_indices].expand(3, -1, -1)
    mirrored = project(points, flip_camera(camera))[:, permutation] * torch.tensor([-1.0, 1.0])
    assert torch.allclose(mirrored, project(points, camera), atol=1e-4)


def test_points_travel_with_the_checkpoint():
    other = bird()._replace(vertices=bird().vertices * torch.tensor([1.0, 0.7, 1.3]))
    first, second = KeypointHead(SPEC, bird()), KeypointHead(SPEC, other)
    assert not torch.equal(first.keypoint_indices, second.keypoint_indices)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.keypoint_indices, second.keypoint_indices)
    assert "self_supervision.indices" in first.state_dict()


def test_given_vertices_are_the_ones_that_are_solved_for():
    head = KeypointHead(SPEC, bird()).eval()
    camera = example_batch(2)["camera"]
    head.network = Oracle(true_heatmaps(head, camera))
    half = 0.5 * head.template_vertices.expand(2, -1, -1)
    assert torch.allclose(head(features(2), half).camera.scale, 2 * camera.scale, atol=0.02)


def test_points_of_the_template_are_solved_for_whatever_the_shapes():
    head = KeypointHead(SPEC, bird(), reads_shapes=False).eval()
    batch = example_batch(2)
    head.network = Oracle(true_heatmaps(head, batch["camera"]))
    half = 0.5 * head.template_vertices.expand(2, -1, -1)
    prediction, own = head(features(2), half), head(features(2))
    assert torch.allclose(prediction.camera.scale, batch["camera"].scale, atol=0.01)
    assert torch.equal(prediction.points, own.points)
    # Targets are those points under the labels, too.
    assert torch.equal(head.losses(prediction, batch)["heatmap"], head.losses(own, batch)["heatmap"])


def test_visibility_weighs_far_side_and_outside():
    head = KeypointHead(SPEC, bird(), occluded_weight=0.25)
    batch = example_batch(3)
    vertices = head.template_vertices.expand(3, -1, -1)
    camera = batch["camera"]._replace(translation=torch.tensor([[0.0, 0.0], [0.9, 0.0], [5.0, 0.0]]))
    keypoints = project(vertices[:, head.keypoint_indices], camera)
    weights = head.weights(keypoints, head.visibility(vertices, camera))
    assert set(weights[0].unique().tolist()) <= {0.0, 0.25, 1.0}
    assert 0.25 < (weights[0] == 1).float().mean() < 0.75
    assert ((weights[1] == 0) == (keypoints[1].abs() >= 1).any(-1)).all()
    assert (weights[2] == 0).all()
    head.occluded_weight = 1.0
    assert (head.weights(keypoints, head.visibility(vertices, camera))[0] == 1).all()


def test_images_without_any_point_in_sight_do_not_train():
    head = KeypointHead(SPEC, bird())
    batch = example_batch(2)
    batch["camera"] = batch["camera"]._replace(translation=torch.full((2, 2), 9.0))
    loss = head.losses(head(features(2)), batch)["heatmap"]
    loss.backward()
    assert loss == 0


def test_deep_supervision_reads_the_stages():
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8, deep_weight=0.5)
    batch = example_batch(2)
    prediction = head(features(2))
    assert [tuple(m.shape[-2:]) for m in prediction.outputs] == [(16, 16), (32, 32)]
    losses = head.losses(prediction, batch)
    outputs = (0 * prediction.outputs[0], prediction.outputs[1])
    none = head.losses(dataclasses.replace(prediction, outputs=outputs), batch)
    assert "deep" in losses
    assert none["deep"].item() == pytest.approx(0.5, abs=1e-5)


@pytest.mark.parametrize("loss", [HeatmapLoss(), DivergenceLoss(), PositionLoss()], ids=lambda x: type(x).__name__)
def test_every_loss_reads_perfect_maps(loss):
    head = KeypointHead(SPEC, bird(), loss=loss).eval()
    camera = example_batch(4)["camera"]
    maps = true_heatmaps(head, camera)
    head.network = Oracle(maps if type(loss) is HeatmapLoss else maps.clamp_min(1e-30).log())
    prediction = head(features(4))
    assert prediction.valid.all()
    assert geodesic_distance(prediction.camera.rotation, camera.rotation).rad2deg().max() < 1


def test_half_precision_is_kept_out_of_the_solver():
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8)
    with torch.autocast("cpu", torch.bfloat16):
        losses = head.losses(head(features(2)), example_batch(2))
    assert all(loss.isfinite() for loss in losses.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_heads_may_be_of_another_precision_throughout(dtype):
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8).to(dtype)
    maps = Features(tuple(part.to(dtype) for part in features(2).maps))
    prediction = head(maps)
    losses = head.losses(prediction, example_batch(2))
    torch.stack([loss.float() for loss in losses.values()]).sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters() if parameter.grad is not None)
    assert all(part.isfinite().all() for part in prediction.camera)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"sigma": 0.0}, "positive sigma"),
        ({"occluded_weight": -1.0}, "weights of at least 0"),
        ({"deep_weight": -1.0}, "weights of at least 0"),
    ],
)
def test_settings_are_checked(settings, line):
    with pytest.raises(ValueError, match=line):
        KeypointHead(SPEC, bird(), **settings)


@pytest.mark.parametrize("loss", [HeatmapLoss(), PositionLoss()], ids=lambda x: type(x).__name__)
def test_the_gradient_of_the_camera_reaches_the_heatmaps(loss):
    head = KeypointHead(SPEC, bird(), num_keypoints=16, width=8, loss=loss)
    camera = head.camera_of(head(features(3)))
    (camera.rotation.sum() + camera.scale.sum() + camera.translation.sum()).backward()
    assert head.network.read[-1].weight.grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())


@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan])
def test_maps_that_say_nothing_give_a_flagged_finite_camera(value):
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8).eval()
    head.network = Oracle(torch.full((2, 8, 16, 16), value), width=8)
    prediction = head(features(2))
    assert not prediction.valid.any()
    assert all(part.isfinite().all() for part in prediction.camera)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("count", [1, 4, 16])
def test_features_out_of_all_bounds_give_a_finite_camera(value, count):
    head = KeypointHead(SPEC, bird(), num_keypoints=count, width=8).eval()
    maps = torch.randn(2, 8, 16, 16), torch.randn(2, 16, 8, 8)
    expected = head(Features(maps))
    for part in maps:
        part[1] = value
    prediction = head(Features(maps))
    assert all(part.isfinite().all() for part in prediction.camera)
    assert prediction.confidence.isfinite().all()
    if value != 1e30:
        assert not prediction.valid[1]
    # The sound image of the batch is as if it were alone.
    torch.testing.assert_close(prediction.camera.rotation[0], expected.camera.rotation[0])
    assert prediction.valid[0] == expected.valid[0]
