"""The networks that come with kpose, as users get them."""

import shutil
import zlib
from pathlib import Path

import pytest
import torch
from inference.segmentation.conftest import bird_scene

import kpose
from kpose.geometry import mask_iou
from kpose.inference import shipped_networks
from kpose.inference.segmentation import MaskSegmenter

FOLDER = Path(kpose.__file__).parent / "weights"
MIB = 2**20


@pytest.fixture(scope="module")
def predictor() -> kpose.Predictor:
    return kpose.load("bird")


def test_they_are_small_and_known_by_name() -> None:
    assert shipped_networks() == ["bird", "bird-sfm"]
    packed = (len(zlib.compress(file.read_bytes())) for file in FOLDER.rglob("*") if file.is_file())
    assert sum(packed) < 25 * MIB  # in the wheel


@pytest.mark.parametrize("name", shipped_networks())
def test_each_finds_birds_and_says_how_sure_it_is(name: str) -> None:
    network = kpose.load(name)
    assert network.network.domain is not None
    assert (network.network.domain.category, network.network.domain.data) == ("bird", "CUB-200-2011")
    [found] = network(bird_scene(place=(130, 100), size=(200, 260)))
    assert found.located_by == "MaskSegmenter"
    assert found.mesh.texture is not None
    assert found.score is not None


def test_a_network_without_a_segmenter_takes_that_of_its_category(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(FOLDER / "bird" / name, tmp_path)
    alone, whole = kpose.load(tmp_path), kpose.load("bird")
    assert isinstance(alone.segmenter, MaskSegmenter)
    picture = bird_scene(place=(130, 100), size=(200, 260))
    assert alone(picture)[0].box == whole(picture)[0].box
    assert alone(picture)[0].score is None


def test_they_say_what_they_have_learned_from(predictor: kpose.Predictor) -> None:
    assert "photographs of birds (CUB-200-2011, cameras without pose labels)" in str(predictor.network)
    assert "photographs of birds (CUB-200-2011, camera labels)" in str(kpose.load("bird-sfm").network)


def test_a_bird_is_found_and_reconstructed_from_a_picture_alone(predictor: kpose.Predictor) -> None:
    picture = bird_scene(place=(130, 100), size=(200, 260))
    [found] = predictor(picture)
    assert found.located_by == "MaskSegmenter"
    assert found.valid
    [segment] = predictor.segmenter.segment(picture)  # type: ignore[union-attr]
    assert mask_iou(found.mask, (segment.mask > 0.5).float()) > 0.5
    assert found.mesh.texture is not None
    # Seen from its side, its head to the left or right.
    assert abs(float(found.camera.rotation[2, 1])) < 0.8


def test_the_same_picture_gives_the_same_numbers(predictor: kpose.Predictor) -> None:
    picture = bird_scene(place=(60, 45))
    [one], [other] = predictor(picture), kpose.Predictor.pretrained("bird")(picture)
    assert torch.equal(one.camera.rotation, other.camera.rotation)


def test_noise_and_plain_colors_are_not_taken_for_birds(predictor: kpose.Predictor) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = [torch.rand(3, 90, 120, generator=generator) for _ in range(6)]
    plain = [torch.rand(3, 1, 1, generator=generator).expand(3, 90, 120) for _ in range(6)]
    for found in predictor([*noise, *plain]):
        assert found.score is not None
        assert found.expected_error_deg is not None
        assert found.score < 0.2
        assert found.expected_error_deg > 90
        assert not found.is_sure


def test_how_sure_it_is_depends_on_no_other_picture(predictor: kpose.Predictor) -> None:
    pictures = [bird_scene(place=(60, 45)), bird_scene(place=(130, 100), size=(200, 260)), torch.rand(3, 80, 90)]
    for one, picture in zip(predictor(pictures), pictures, strict=True):
        [alone] = predictor(picture)
        assert alone.expected_error_deg == pytest.approx(one.expected_error_deg, abs=1.0)
        assert alone.score == pytest.approx(one.score, abs=0.02)
