import shutil
from pathlib import Path

import pytest
import torch
from inference.segmentation.conftest import bird_scene

from kpose.inference.segmentation import AutomaticSegmenter, SaliencySegmenter, Segment, TransformersSegmenter

MODELS = ("someone/large", "someone/small")


@pytest.fixture
def hub(universal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the second of two models into a cache like that of the Hub, and half of the first."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for name in MODELS:
        repository = tmp_path / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0123abc")
        shutil.copytree(universal, repository / "snapshots" / "0123abc")
    (tmp_path / "models--someone--large" / "snapshots" / "0123abc" / "model.safetensors").unlink()
    return tmp_path / "models--someone--small" / "snapshots" / "0123abc"


def test_a_model_of_the_cache_goes_before_what_stands_out(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = AutomaticSegmenter(models=MODELS)
    assert segmenter.model_name == "someone/small"
    bird = Segment(torch.ones(90, 120), 1.0)
    monkeypatch.setattr(TransformersSegmenter, "segment", lambda self, image: [bird] if image.max() > 0.95 else [])
    picture = bird_scene(place=(60, 45)).clamp(0, 0.9)
    [segment] = segmenter.segment(picture)
    assert isinstance(segment.found_by, SaliencySegmenter)
    picture[:, 0, 0] = 1
    [segment] = segmenter.segment(picture)
    assert isinstance(segment.found_by, TransformersSegmenter)
    assert segment.mask is bird.mask


def test_a_model_that_cannot_be_used_is_said_once(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    (hub / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"whole weights; those of .* are damaged"):
        TransformersSegmenter(hub)
    segmenter = AutomaticSegmenter(models=MODELS)
    for _ in range(2):
        [segment] = segmenter.segment(bird_scene(place=(60, 45)))
        assert isinstance(segment.found_by, SaliencySegmenter)
    [record] = caplog.records
    assert "someone/small is in the cache of the Hub but cannot be used" in record.getMessage()
