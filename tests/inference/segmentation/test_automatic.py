import shutil
from pathlib import Path

import pytest

from kpose.inference.segmentation import MaskSegmenter, TransformersSegmenter, automatic_segmenter

MODELS = ("someone/large", "someone/small")


@pytest.fixture
def hub(universal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the second of two models into a cache like that of the Hub, and half of the first."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("kpose.inference.segmentation.automatic.SHIPPED_WEIGHTS", tmp_path / "none")
    for name in MODELS:
        repository = tmp_path / f"models--{name.replace('/', '--')}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text("0123abc")
        shutil.copytree(universal, repository / "snapshots" / "0123abc")
    (tmp_path / "models--someone--large" / "snapshots" / "0123abc" / "model.safetensors").unlink()
    return tmp_path / "models--someone--small" / "snapshots" / "0123abc"


def test_birds_are_found_by_what_comes_with_kpose() -> None:
    assert isinstance(automatic_segmenter(), MaskSegmenter)


def test_other_categories_need_a_model_of_the_cache(hub: Path) -> None:
    assert isinstance(automatic_segmenter(models=MODELS), TransformersSegmenter)
    assert automatic_segmenter(models=MODELS[:1]) is None
    assert automatic_segmenter("teapot", models=MODELS) is None


def test_a_model_that_cannot_be_used_is_reported(hub: Path, caplog: pytest.LogCaptureFixture) -> None:
    (hub / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"whole weights; those of .* are damaged"):
        TransformersSegmenter(hub)
    assert automatic_segmenter(models=MODELS) is None
    [record] = caplog.records
    assert "someone/small is in the cache of the Hub but cannot be used" in record.getMessage()
