import asyncio
import gc
import importlib.util
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from cli.browser import needs_chromium, open_browser, pixels
from cli.conftest import call
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page

from kpose.cli.app import build_app
from kpose.inference import Predictor, load_photo


def test_without_gradio_one_line_says_how_to_get_it(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert call("app", "--checkpoint", checkpoints["quaternion"]) == 1
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
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    dropped = gradio.image_utils.ImageData(path=str(tmp_path / "deep.png"), orig_name="deep.png")
    given = show.inputs[0].preprocess(dropped)
    assert load_photo(given).tobytes() == load_photo(tmp_path / "deep.png").tobytes()  # as other commands see it
    mesh, overlay, remark = show.fn(given)
    assert Path(mesh.value["path"]).read_bytes()[:4] == b"glTF"
    assert overlay.size == photo.size
    assert "whole frame" in remark
    assert show.fn(None) == (None, None, "")
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    with pytest.raises(gradio.Error, match="at least 8 pixels"):
        show.fn(str(tmp_path / "small.png"))
    # Gradio leaves an event loop behind, of whose sockets a later test would be warned.
    with suppress(RuntimeError):
        asyncio.get_event_loop().close()
    asyncio.set_event_loop(None)
    gc.collect()


@needs_chromium
def test_a_browser_shows_the_mesh_of_a_dropped_photo(
    checkpoints: dict[str, Path], photo: Image.Image, tmp_path: Path
) -> None:
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("Gradio is in the extra app")
    photo.save(tmp_path / "robin.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "kpose", "app", "--checkpoint", checkpoints["keypoint"], "--port", str(port)]
    app = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        address = next(line.split()[1] for line in app.stderr or [] if line.startswith("Open "))
        with open_browser() as (browser, errors, asked_for):
            browser.goto(address)
            browser.locator("input[type=file]").first.set_input_files(tmp_path / "robin.png")
            browser.locator("canvas").wait_for()
            pictures = map(_covered, [browser] * 200)  # until the whole of a mesh is seen from its side
            assert any(map(_is_long, pictures))
    finally:
        app.kill()
        app.communicate()
    assert errors == []
    assert all(line.startswith((address, "data:", "blob:")) for line in asked_for)


def _covered(browser: Page) -> NDArray[np.bool_]:
    """Return which pixels of the viewer, below its label, show something."""
    picture = pixels(browser.locator("canvas"))[40:-5, 5:-5]
    return np.abs(picture - picture[0, picture.shape[1] // 2]).sum(-1) > 60


def _is_long(covered: NDArray[np.bool_]) -> bool:
    """Return whether a picture shows the whole of a bird from its side."""
    if covered.sum() <= 1000 or covered[:, [0, -1]].any():
        return False
    rows, columns = covered.any(1).nonzero()[0], covered.any(0).nonzero()[0]
    return bool(np.ptp(columns) > 1.3 * np.ptp(rows))
