"""What a photo gives agrees with itself: camera, silhouette, uncertainty and overlay in the photo's pixels."""

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from kpose._precision import fast_autocast
from kpose.geometry import box_to_crop, uncrop_camera
from kpose.inference import Prediction, Predictor
from kpose.inference.photo import cut_square
from kpose.rendering import HardRenderer
from kpose.structures import Camera, Mesh
from kpose.templates import bird, template_mesh
from kpose.visualization import to_pillow


def reconstruct(source: Image.Image | Path, size: tuple[int, int], mesh: Mesh | None = None) -> Prediction:
    """Return a bird in a known place: seen from the side, across 80 pixels about (60, 50)."""
    square = (10.0, 0.0, 110.0, 100.0)
    crop = box_to_crop(torch.tensor(square))
    side = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    camera = Camera(torch.tensor(0.6), torch.zeros(2), side)
    return Prediction(
        camera=uncrop_camera(camera, crop),
        crop_camera=camera,
        crop=crop,
        square=square,
        box=None,
        located_by="frame",
        size=size,
        source=source,
        mesh=template_mesh(bird()) if mesh is None else mesh,
    )


def test_the_mask_is_the_crop_s_silhouette_in_its_place() -> None:
    found = reconstruct(Image.new("RGB", (130, 100)), (100, 130))
    inside = HardRenderer().silhouette(found.mesh, found.crop_camera, 100)
    assert found.mask.shape == (100, 130)
    torch.testing.assert_close(found.mask[:, 10:110], inside)
    assert 500 < inside.sum() == found.mask.sum()
    assert found.mask is found.mask


def test_a_mask_is_cut_at_the_edge_of_the_photo() -> None:
    whole = reconstruct(Image.new("RGB", (130, 100)), (100, 130)).mask
    part = reconstruct(Image.new("RGB", (50, 100)), (100, 50)).mask
    torch.testing.assert_close(part, whole[:, :50])


def test_the_overlay_changes_the_photo_under_the_mask_only() -> None:
    photo = to_pillow(torch.full((3, 100, 130), 0.5))
    found = reconstruct(photo, (100, 130))
    changed = (found.overlay() - 0.5).abs().amax(0) > 0.02
    near = torch.nn.functional.max_pool2d(found.mask[None], 3, 1, 1)[0] > 0
    assert not (changed & ~near).any()
    assert (changed & (found.mask > 0)).sum() > 0.95 * found.mask.sum()
    assert found.overlay(largest=65).shape == (3, 50, 65)


def test_a_photo_in_a_file_is_read_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "bird.png"
    found = reconstruct(path, (100, 130))
    assert found.mask.sum() > 0
    with pytest.raises(FileNotFoundError, match=r"bird\.png"):
        _ = found.photo
    Image.new("RGB", (130, 100), "red").save(path)
    assert found.photo.getpixel((0, 0)) == (255, 0, 0)


def test_uncertainty_is_that_of_the_crop_in_pixels(checkpoints: dict[str, Path]) -> None:
    photo = to_pillow(torch.rand(3, 90, 120))
    predictor = Predictor.from_checkpoint(checkpoints["keypoint"])
    [found] = predictor(photo, box=(20, 10, 80, 70))
    with torch.no_grad(), fast_autocast(predictor.network):
        in_crop = predictor.network(cut_square(photo, found.square, 64)[None]).covariance[0]
    pixels = (found.square[2] - found.square[0]) / 2
    unit = torch.tensor([1.0, pixels, pixels, 1, 1, 1])
    expected = unit[:, None] * in_crop * unit
    torch.testing.assert_close(found.covariance, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
    assert found.rotation_deviation_deg == pytest.approx(in_crop[3:, 3:].trace().sqrt().rad2deg().item(), rel=1e-5)


def test_heads_without_keypoints_know_no_uncertainty(checkpoints: dict[str, Path]) -> None:
    [found] = Predictor.from_checkpoint(checkpoints["quaternion"])(torch.rand(3, 90, 120))
    assert found.covariance is found.rotation_deviation_deg is found.heatmaps is None


def test_a_mesh_file_is_saved(tmp_path: Path) -> None:
    found = reconstruct(Image.new("RGB", (130, 100)), (100, 130))
    [path] = found.save(tmp_path / "bird.glb")
    assert path.read_bytes()[:4] == b"glTF"
    with pytest.raises(FileExistsError):
        found.save(path)


def test_a_notebook_shows_it() -> None:
    shown = Image.open(BytesIO(reconstruct(Image.new("RGB", (130, 100)), (100, 130))._repr_png_()))
    assert shown.format == "PNG"
    assert shown.width > 400


def test_heatmaps_are_drawn_where_they_are_high(checkpoints: dict[str, Path]) -> None:
    [found] = Predictor.from_checkpoint(checkpoints["keypoint"])(torch.rand(3, 90, 120))
    found.keypoints.fill_(-100.0)  # out of the picture
    dark = replace(found, heatmaps=torch.zeros(16, 4, 4)).heatmap_overlay(64)
    found.heatmaps[:, 1:] = found.heatmaps[:, :, 1:] = 0
    found.heatmaps[:, :1, :1] = 1
    light = found.heatmap_overlay(64)
    assert light.shape == (3, 64, 64)
    cell = 64 // found.heatmaps.shape[-1]
    assert (light - dark)[1, :cell, :cell].max() > 0.3
    torch.testing.assert_close(light[:, 32:, 32:], dark[:, 32:, 32:])


def test_keypoints_are_drawn_on_the_heatmaps(checkpoints: dict[str, Path]) -> None:
    [found] = Predictor.from_checkpoint(checkpoints["keypoint"])(torch.rand(3, 90, 120))
    away = replace(found, keypoints=found.keypoints - 1000)
    assert not torch.equal(found.heatmap_overlay(64), away.heatmap_overlay(64))


def test_heads_without_keypoints_have_no_heatmaps_to_draw(checkpoints: dict[str, Path]) -> None:
    [found] = Predictor.from_checkpoint(checkpoints["quaternion"])(torch.rand(3, 90, 120))
    with pytest.raises(ValueError, match="needs keypoints"):
        found.heatmap_overlay()


def test_the_mesh_can_be_turned_in_a_notebook() -> None:
    found = reconstruct(Image.new("RGB", (130, 100)), (100, 130))
    assert found.view()._repr_html_().startswith("<iframe srcdoc=")
