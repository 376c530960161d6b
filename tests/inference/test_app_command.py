import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kpose.inference import Predictor
from kpose.inference.app_command import build_app, main

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


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
    [show] = build_app(Predictor.from_checkpoint(checkpoints["keypoint"]), tmp_path).fns.values()
    mesh, overlay, remark = show.fn(photo)
    assert Path(mesh).read_bytes()[:4] == b"glTF"
    assert overlay.size == photo.size
    assert "whole frame" in remark
    assert show.fn(None) == (None, None, "")
    with pytest.raises(gradio.Error, match="at least 8 pixels"):
        show.fn(Image.new("RGB", (4, 4)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path; it draws the page of kpose app")
def test_a_browser_shows_the_page(checkpoints: dict[str, Path], photo: Image.Image, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="Gradio is in the extra app")
    app = build_app(Predictor.from_checkpoint(checkpoints["keypoint"]), tmp_path)
    [show] = app.fns.values()
    given = [photo, *show.fn(photo)]
    with app:  # as if the photo had been dropped
        app.load(lambda: tuple(given), outputs=[*show.inputs, *show.outputs])
    _, address, _ = app.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, share=False)
    drawn = tmp_path / "page.png"
    try:
        done = subprocess.run(
            [
                CHROMIUM, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader", f"--user-data-dir={tmp_path}/profile", "--window-size=1200,700",
                "--virtual-time-budget=20000", f"--screenshot={drawn}", address,
            ],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        app.close()
    assert drawn.exists(), done.stderr[-2000:]
    # The noise of the photo, and of the overlay, is on the page.
    assert np.asarray(Image.open(drawn).convert("L")).astype(float)[100:500].std() > 20
