import pytest
import torch

from kpose.geometry import geodesic_distance, project
from kpose.heads import KeypointSolver
from kpose.templates import bird
from kpose.testing import example_batch


def scene(size=4, count=20):
    camera = example_batch(size)["camera"]
    points = bird().vertices[torch.linspace(0, 641, count).long()].expand(size, -1, -1)
    return project(points, camera), points, camera


def angles(first, second):
    return geodesic_distance(first.rotation, second.rotation).rad2deg()


def anywhere(*size):
    return torch.rand(*size, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_keypoints_of_low_confidence_have_no_say():
    keypoints, points, camera = scene()
    confidence = torch.full((4, 20), 0.5)
    confidence[:, 10:] = 0.4
    keypoints[:, 10:] = anywhere(4, 10)
    solution = KeypointSolver().eval()(keypoints, points, confidence)
    assert angles(solution.camera, camera).max() < 0.1
    assert solution.valid.all()
    # Without trust in the better half, ten wrong ones in twenty are many.
    assert (
        angles(KeypointSolver(trusted=1.0, threshold=None)(keypoints, points, confidence).camera, camera).max() > 5
    )


def test_keypoints_that_are_not_trusted_are_told_inliers_from_outliers():
    keypoints, points, _ = scene()
    confidence = torch.full((4, 20), 0.5)
    confidence[:, 10:] = 0.4
    keypoints[:, 15:] = anywhere(4, 5)
    inliers = KeypointSolver().eval()(keypoints, points, confidence).inliers
    assert inliers[:, :15].all()
    assert inliers[:, 15:].float().mean() < 0.2


@pytest.mark.parametrize("value", [0.0, torch.nan, torch.inf])
def test_keypoints_that_determine_nothing_give_a_finite_flagged_camera(value):
    _, points, _ = scene(2)
    solution = KeypointSolver()(torch.full((2, 20, 2), value), points, torch.ones(2, 20))
    assert not solution.valid.any()
    assert all(part.isfinite().all() for part in solution.camera)
    assert torch.equal(solution.covariance, torch.eye(6).expand(2, 6, 6))


def test_no_confidence_at_all_is_flagged():
    keypoints, points, _ = scene(2)
    assert not KeypointSolver()(keypoints, points, torch.zeros(2, 20)).valid.any()


def test_images_do_not_depend_on_each_other():
    keypoints, points, _ = scene()
    confidence = torch.rand(4, 20, generator=torch.Generator().manual_seed(0))
    confidence[2] = 0
    solver = KeypointSolver().eval()
    together = solver(keypoints, points, confidence)
    for row in range(4):
        alone = solver(keypoints[row, None], points[row, None], confidence[row, None])
        assert alone.valid == together.valid[row]
        assert torch.allclose(alone.camera.rotation[0], together.camera.rotation[row], atol=1e-5)


@pytest.mark.parametrize("settings", [{"trusted": 0.0}, {"trusted": 1.5}, {"threshold": 0.0}, {"hypotheses": 0}])
def test_settings_are_checked(settings):
    with pytest.raises(ValueError, match="KeypointSolver needs trusted in"):
        KeypointSolver(**settings)
