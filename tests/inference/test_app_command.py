import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kpose.inference import Predictor
from kpose.inference.app_command import build_app, main


def test_without_gradio_one_line_says_how_to_get_it(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["--checkpoint", str(checkpoints["quaternion"])]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'kpose[app]'" in said


@pytest.fixture
def photo() -> Image.Image:
    random = np.random.default_rng(0)
    return Image.fromarray(random.integers(0, 256, (72, 96, 3), dtype=np.uint8))


@pytest.mark.filterwarnings("ignore")  # of Gradio and what it imports
def test_a_photo_gives_a_mesh_and_an_overlay(
    checkpoints: dict[str, Path], photo: Image.Image, tmp_path: Path
) -> None:
    gradio = pytest.importorskip("gradio", reason="Gradio is in the extra app")
    predictor = Predictor.from_checkpoint(checkpoints["keypoint"], segmenter=None)
    [show] = build_app(predictor, tmp_path).fns.values()
    mesh, overlay, remark = show.fn(photo)
    assert Path(mesh).read_bytes()[:4] == b"glTF"
    assert overlay.size == photo.size
    assert "whole frame" in remark
    assert show.fn(None) == (None, None, "")
    with pytest.raises(gradio.Error, match="at least 8 pixels"):
        show.fn(Image.new("RGB", (4, 4)))
