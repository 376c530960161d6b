import pytest
import torch

from kpose.geometry import geodesic_distance, project
from kpose.heads import KeypointHead, KeypointSolver, PoseSource, ProcrustesHead, QuaternionHead
from kpose.structures import Features, FeatureSpec
from kpose.templates import bird
from kpose.testing import example_batch

SPEC = FeatureSpec((8, 16), (4, 8))


def scene(size=4, count=20):
    camera = example_batch(size)["camera"]
    points = bird().vertices[torch.linspace(0, 641, count).long()].expand(size, -1, -1)
    return project(points, camera), points, camera


def angles(first, second):
    return geodesic_distance(first.rotation, second.rotation).rad2deg()


def test_each_image_takes_the_first_means_that_serves():
    keypoints, points, camera = scene()
    other = example_batch(4, seed=1)["camera"]
    confidence = torch.full((4, 20), 0.5)
    anywhere = torch.rand(7, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    confidence[1, :7], keypoints[1, :7] = 0.51, anywhere  # most of those that are trusted are wrong
    confidence[2, 6:] = 0  # too few to be believed, however well they agree
    confidence[3] = 0
    solution, source = KeypointSolver(trusted=0.4, min_inliers=0.35)(keypoints, points, confidence, other)
    assert source.tolist() == [
        PoseSource.KEYPOINTS,
        PoseSource.MORE_KEYPOINTS,
        PoseSource.REGRESSION,
        PoseSource.REGRESSION,
    ]
    assert angles(solution.camera, camera)[:2].max() < 0.1
    assert torch.equal(solution.camera.rotation[2:], other.rotation[2:])
    assert torch.equal(solution.camera.scale[2:], other.scale[2:])
    assert solution.valid.tolist() == [True, True, False, False]
    assert not solution.inliers[2:].any()
    assert torch.equal(solution.covariance[3], torch.eye(6))


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_without_any_fallback_the_camera_is_finite_and_flagged(value):
    _, points, _ = scene(2)
    solution, source = KeypointSolver()(torch.full((2, 20, 2), value), points, torch.ones(2, 20), None)
    assert source.tolist() == [PoseSource.NONE] * 2
    assert not solution.valid.any()
    assert all(part.isfinite().all() for part in solution.camera)


def test_images_do_not_depend_on_each_other():
    keypoints, points, _ = scene()
    confidence = torch.rand(4, 20, generator=torch.Generator().manual_seed(0))
    confidence[2] = 0
    together, source = KeypointSolver().eval()(keypoints, points, confidence, None)
    alone, single = KeypointSolver().eval()(keypoints[2:3], points[2:3], confidence[2:3], None)
    assert single == source[2]
    assert torch.allclose(alone.camera.rotation, together.camera.rotation[2:3], atol=1e-5)


class Blank(torch.nn.Module):
    """Gives empty maps in place of a network."""

    def __init__(self, network, value):
        super().__init__()
        self.network, self.value = network, value

    def forward(self, features):
        maps = self.network(features)
        return maps._replace(stages=(torch.full_like(maps.stages[-1], self.value),))


@pytest.mark.parametrize("value", [0.0, -1.0, torch.nan])
@pytest.mark.parametrize("fallback", [ProcrustesHead, QuaternionHead, None])
def test_a_head_whose_maps_say_nothing_regresses(value, fallback):
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8, fallback=fallback).eval()
    head.network = Blank(head.network, value)
    prediction = head(Features((torch.randn(2, 8, 16, 16), torch.randn(2, 16, 8, 8))))
    assert not prediction.valid.any()
    assert all(part.isfinite().all() for part in prediction.camera)
    if fallback is None:
        assert (prediction.source == PoseSource.NONE).all()
        assert prediction.regression is None
    else:
        assert (prediction.source == PoseSource.REGRESSION).all()
        assert torch.equal(prediction.camera.rotation, prediction.regression.camera.rotation)


def test_the_fallback_is_trained_with_the_head():
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8, fallback=QuaternionHead)
    batch = example_batch(2)
    losses = head.losses(head(Features((torch.randn(2, 8, 16, 16), torch.randn(2, 16, 8, 8)))), batch)
    assert {"fallback_rotation", "fallback_scale", "fallback_translation"} < losses.keys()
    losses["fallback_rotation"].backward()
    assert head.fallback.output.weight.grad.abs().sum() > 0


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
        assert prediction.source[1] == PoseSource.NONE
    # The sound image of the batch is as if it were alone.
    torch.testing.assert_close(prediction.camera.rotation[0], expected.camera.rotation[0])
    assert prediction.source[0] == expected.source[0]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"trusted": 0.0}, "trusted in"),
        ({"min_inliers": 2.0}, "min_inliers in"),
        ({"threshold": 0.0}, "positive threshold"),
        ({"hypotheses": 0}, "positive threshold and hypotheses"),
    ],
)
def test_settings_of_the_solver_are_checked(settings, line):
    with pytest.raises(ValueError, match=line):
        KeypointSolver(**settings)
