import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kpose.backbones import EfficientNetLite, TinyBackbone
from kpose.geometry import apply_crop, project
from kpose.heads import KeypointPrediction, QuaternionHead
from kpose.inference import Predictor
from kpose.inference.photo import cut_square, photo_square
from kpose.inference.segmentation import MaskNetwork, MaskSegmenter
from kpose.network import PoseNetwork
from kpose.reconstruction import MeshReconstructor
from kpose.rendering import HardRenderer
from kpose.structures import Camera
from kpose.tasks import PoseEstimator
from kpose.visualization import to_pillow


@pytest.fixture(scope="module")
def predictor(checkpoints: dict[str, Path]) -> Predictor:
    return Predictor.from_checkpoint(checkpoints["keypoint"])


def noise(width: int = 120, height: int = 90, seed: int = 0) -> torch.Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(seed))


def test_a_checkpoint_gives_the_task_that_was_saved(
    checkpoints: dict[str, Path], tiny_task: Callable[[str], PoseEstimator]
) -> None:
    for head, path in checkpoints.items():
        predictor = Predictor.from_checkpoint(path, segmenter=None)
        assert predictor.image_size == 64
        photo = noise(64, 64)
        expected = tiny_task(head)(cut_square(to_pillow(photo), photo_square((64, 64)), 64)[None])
        [found] = predictor(photo)
        if isinstance(expected, KeypointPrediction):
            # An untrained head's peaks fit no camera: the solver may turn rounding into another one.
            assert found.confidence is not None
            torch.testing.assert_close(found.confidence, expected.confidence[0])
            continue
        for ours, theirs in zip(found.crop_camera, expected.camera, strict=True):
            torch.testing.assert_close(ours, theirs[0], atol=5e-3, rtol=0)  # predicted in bfloat16


@pytest.mark.parametrize("head", ["keypoint", "quaternion"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_valid(
    head: str, value: float, tiny_task: Callable[[str], PoseEstimator]
) -> None:
    task = tiny_task(head)
    with torch.no_grad():
        for weights in task.network.head.parameters():
            weights.fill_(value)
    [found] = Predictor(task, image_size=64, segmenter=None)(noise())
    assert found.is_finite == (head == "keypoint")  # which gives an arbitrary camera then
    assert not found.valid


def test_cameras_of_photo_and_crop_agree(predictor: Predictor) -> None:
    [found] = predictor(noise(), box=(20, 10, 80, 70))
    points = torch.randn(10, 3)
    in_photo = project(points, found.camera)
    torch.testing.assert_close(apply_crop(in_photo, found.crop), project(points, found.crop_camera))
    left, top, right, bottom = found.square
    corners = apply_crop(torch.tensor([[left, top], [right, bottom]]), found.crop)
    torch.testing.assert_close(corners, torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    assert found.box == (20, 10, 80, 70)
    assert found.size == (90, 120)


def test_moving_the_photo_moves_the_prediction(predictor: Predictor) -> None:
    photo = noise()
    moved = torch.ones(3, 130, 180)
    moved[:, 30:120, 50:170] = photo
    [first] = predictor(photo, box=(30, 20, 90, 60))
    [second] = predictor(moved, box=(80, 50, 140, 90))
    torch.testing.assert_close(second.camera.rotation, first.camera.rotation, atol=1e-4, rtol=0)
    shift = torch.tensor([50.0, 30.0])
    torch.testing.assert_close(second.camera.translation, first.camera.translation + shift, atol=0.05, rtol=0)
    assert first.keypoints is not None
    assert second.keypoints is not None
    torch.testing.assert_close(second.keypoints, first.keypoints + shift, atol=0.05, rtol=0)


def test_keypoints_have_confidence_and_inliers(predictor: Predictor) -> None:
    [found] = predictor(noise(), box=(20, 10, 80, 70))
    assert found.keypoints is not None
    assert found.confidence is not None
    assert found.inliers is not None
    assert found.keypoints.shape == (16, 2)
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()
    left, top, right, bottom = found.square
    assert (found.keypoints > torch.tensor([left, top]) - 0.01).all()
    assert (found.keypoints < torch.tensor([right, bottom]) + 0.01).all()


def test_predictor_and_prediction_are_a_line_each(predictor: Predictor) -> None:
    [found] = predictor(torch.rand(3, 40, 40))
    assert repr(predictor).startswith("Predictor(")
    assert "crops of 64 pixels" in repr(predictor)
    assert repr(found).startswith("Prediction(Tensor, located_by=")
    assert len(repr(found)) < 200


def test_what_the_camera_comes_from_is_told(tiny_task: Callable[[str], PoseEstimator]) -> None:
    task = tiny_task("keypoint")
    [found] = Predictor(task, image_size=64, segmenter=None)(noise())
    assert found.pose_from == "keypoints"
    task.network.head.loss.heatmaps = torch.zeros_like  # maps in which there is nothing
    [found] = Predictor(task, image_size=64, segmenter=None)(noise())
    assert found.pose_from == "none"
    assert not found.valid
    [found] = Predictor(tiny_task("quaternion"), image_size=64, segmenter=None)(noise())
    assert found.pose_from == "regression"
    assert found.valid


def test_a_head_without_keypoints_has_none(checkpoints: dict[str, Path]) -> None:
    [found] = Predictor.from_checkpoint(checkpoints["quaternion"])(noise())
    assert found.keypoints is found.confidence is found.inliers is None
    assert found.valid


def test_a_batch_equals_one_by_one(checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints["quaternion"])
    photos = [noise(seed=0), noise(70, 50, seed=1), noise(seed=2)]
    boxes = [(20, 10, 80, 70), None, (5, 5, 60, 40)]
    two_at_a_time = Predictor(predictor.network, image_size=64, batch_size=2)
    together = two_at_a_time(photos, box=boxes)
    assert len(together) == 3
    for photo, box, found in zip(photos, boxes, together, strict=True):
        [alone] = predictor(photo, box=box)
        torch.testing.assert_close(found.camera.rotation, alone.camera.rotation, atol=1e-4, rtol=1e-4)
        assert found.square == alone.square


def test_no_photos_no_predictions(predictor: Predictor) -> None:
    assert predictor([]) == []


def test_a_mask_is_a_box(predictor: Predictor, tmp_path: Path) -> None:
    mask = torch.zeros(90, 120)
    mask[10:70, 20:80] = 1
    [by_mask] = predictor(noise(), mask=mask)
    [by_box] = predictor(noise(), box=(20, 10, 80, 70))
    assert by_mask.box == by_box.box
    assert by_mask.square == by_box.square
    torch.testing.assert_close(by_mask.camera.rotation, by_box.camera.rotation)


def test_the_log_tells_of_whole_frames(predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "kpose.inference"):
        predictor(noise(), box=(20, 10, 80, 70))
        assert not caplog.records
        [found] = predictor(torch.full((3, 90, 120), 0.5))
    assert "whole frame" in caplog.text
    assert found.box is None
    assert found.square == (0, -15, 120, 105)


def test_predictions_need_no_gradient_and_leave_training_alone(predictor: Predictor) -> None:
    [found] = predictor(noise())
    assert not found.camera.scale.requires_grad
    assert not predictor.network.training


def test_mixed_up_boxes_and_masks_are_refused(predictor: Predictor) -> None:
    photos = [noise()] * 4
    with pytest.raises(ValueError, match="each of 4 photos; got a single one"):
        predictor(photos, box=(20, 10, 80, 70))
    with pytest.raises(ValueError, match="each of 4 photos; got a single one"):
        predictor(photos, mask=torch.ones(90, 120))
    with pytest.raises(ValueError, match="got 1 boxes and 4 masks"):
        predictor(photos, box=[(20, 10, 80, 70)])
    with pytest.raises(ValueError, match="got both"):
        predictor(noise(), box=(20, 10, 80, 70), mask=torch.ones(90, 120))


def test_a_network_and_a_task_with_one_are_alike(tiny_task: Callable[[str], PoseEstimator]) -> None:
    task = tiny_task("quaternion")
    [by_task], [by_network] = (Predictor(part, image_size=64)(noise()) for part in (task, task.network))
    torch.testing.assert_close(by_task.camera, by_network.camera, rtol=0, atol=0)
    with pytest.raises(TypeError, match="needs a PoseNetwork or a task with one; got Linear"):
        Predictor(torch.nn.Linear(1, 1), image_size=64)


def test_threads_share_a_predictor(predictor: Predictor) -> None:
    photos = [noise(seed=seed) for seed in range(6)]
    alone = [predictor(photo)[0] for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        together = [found for [found] in pool.map(predictor, photos)]
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(other.heatmaps, one.heatmaps, rtol=0, atol=1e-5)
        assert torch.equal(other.mesh.vertices, one.mesh.vertices)
        assert not other.camera.scale.requires_grad


def test_the_segmenter_of_a_category_travels_along(predictor: Predictor, tmp_path: Path) -> None:
    segmenter = MaskSegmenter(MaskNetwork(EfficientNetLite((4, 8, 16, 32)), width=8), size=64, min_area=0.1)
    Predictor(predictor.network, segmenter=segmenter).save_pretrained(tmp_path)
    found = Predictor.from_pretrained(tmp_path).segmenter
    assert isinstance(found, MaskSegmenter)
    assert found.min_area == 0.1
    assert Predictor.from_pretrained(tmp_path, segmenter=None).segmenter is None


def test_networks_that_kpose_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kpose comes with the networks .*; got 'dinosaur'"):
        Predictor.pretrained("dinosaur")


def test_a_reconstructor_gives_shape_and_texture() -> None:
    network = PoseNetwork(TinyBackbone(width=8), QuaternionHead, reconstructor=MeshReconstructor)
    assert network.reconstructor is not None
    torch.nn.init.normal_(network.reconstructor.shape.output.weight, std=0.02)
    first, second = Predictor(network, image_size=64)([noise(seed=0), noise(seed=1)])
    assert first.mesh.texture is not None
    assert first.mesh.texture.shape == (3, 128, 256)
    assert first.mesh.uv is not None
    assert first.mesh.uv_faces is not None
    assert first.mesh.uv_faces.shape == first.mesh.faces.shape
    assert (first.mesh.vertices - network.vertices).abs().max() > 1e-3
    assert not torch.equal(first.mesh.vertices, second.mesh.vertices)
    assert not torch.equal(first.mesh.texture, second.mesh.texture)  # type: ignore[arg-type]
    seen = HardRenderer().render(first.mesh, first.crop_camera, 32)
    assert seen.rgb is not None


def test_without_a_reconstructor_the_shape_is_the_template_s(predictor: Predictor) -> None:
    [found] = predictor(noise())
    assert torch.equal(found.mesh.vertices, predictor.network.vertices)
    assert found.mesh.texture is None
    painted = found.colored_mesh
    assert painted.texture is not None
    assert painted.texture.std() > 0.01
    assert torch.equal(painted.vertices, found.mesh.vertices)


def test_sizes_must_be_positive(predictor: Predictor) -> None:
    for size in (0, 100_000):
        with pytest.raises(ValueError, match=f"image_size from 1 to 4096 pixels; got {size}"):
            Predictor(predictor.network, image_size=size)
        with pytest.raises(ValueError, match=f"texture_size from 1 to 4096 pixels; got {size}"):
            Predictor(predictor.network, texture_size=size, image_size=64)
    with pytest.raises(ValueError, match="positive batch_size; got 0"):
        Predictor(predictor.network, image_size=64, batch_size=0)


def test_crops_end_with_the_cells_of_the_backbone(predictor: Predictor) -> None:
    with pytest.raises(ValueError, match="TinyBackbone needs images whose sides are multiples of 32 pixels"):
        Predictor(predictor.network, image_size=100)


def test_the_task_gives_what_the_head_predicts(predictor: Predictor) -> None:
    assert isinstance(predictor.network(torch.rand(1, 3, 64, 64)), KeypointPrediction)


def test_an_array_is_one_photo(predictor: Predictor) -> None:
    picture = to_pillow(noise())
    [expected] = predictor(picture, mask=torch.eye(90, 120))
    [found] = predictor(np.asarray(picture), mask=np.eye(90, 120))
    assert torch.equal(found.camera.rotation, expected.camera.rotation)
    assert len(predictor([np.asarray(picture)] * 2)) == 2


@pytest.mark.parametrize(("side", "width"), [(20, 64), (90, 180), (800, 1024)])
def test_textures_are_as_fine_as_the_photo(side: int, width: int, predictor: Predictor) -> None:
    [found] = Predictor(predictor.network, segmenter=None)(noise(side, side))
    assert found.colored_mesh.texture is not None
    assert found.colored_mesh.texture.shape == (3, width // 2, width)


def test_a_texture_is_as_large_as_asked(predictor: Predictor) -> None:
    [found] = Predictor(predictor.network, segmenter=None, texture_size=100)(noise())
    assert found.colored_mesh.texture is not None
    assert found.colored_mesh.texture.shape == (3, 50, 100)


def test_with_a_mask_the_mesh_has_no_color_of_the_background(predictor: Predictor) -> None:
    mask = torch.zeros(90, 120)
    mask[30:60, 40:80] = 1
    photo = torch.stack((1 - mask, mask, 0 * mask))
    [found] = predictor(photo, mask=mask)
    wide = replace(found, crop_camera=Camera(torch.tensor(1.0), torch.zeros(2), torch.eye(3)))
    assert wide.colored_mesh.texture is not None
    assert wide.colored_mesh.texture[0].max() < 0.01
    unmasked = replace(wide, given_mask=None).colored_mesh.texture
    assert unmasked is not None
    assert unmasked[0].max() > 0.9
