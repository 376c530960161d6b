import asyncio
import gc
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli.browser import needs_chromium, open_browser, pixels
from cli.conftest import call
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, expect

from kpose.cli.app import _remark, build_app
from kpose.inference import Prediction, Predictor, load_photo


def test_without_gradio_one_line_says_how_to_get_it(
    checkpoints: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")  # which the command changes
    assert call("app", "--checkpoint", checkpoints["quaternion"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'kpose[app]'" in said


def test_a_taken_port_is_one_line_that_names_the_option(
    checkpoints: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert call("app", "--checkpoint", checkpoints["quaternion"], "--port", str(port)) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"port {port}" in said
    assert "--port" in said
    assert call("app", "--port", "70000") == 2
    assert "--port must be from 1 to 65535; got 70000" in capsys.readouterr().err


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
    page = build_app(predictor, tmp_path)
    show_new, show_corner, show = page.fns.values()
    deep = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    deep.save(tmp_path / "deep.png")
    dropped = gradio.image_utils.ImageData(path=str(tmp_path / "deep.png"), orig_name="deep.png")
    given = show_new.inputs[0].preprocess(dropped)
    assert load_photo(given).tobytes() == load_photo(tmp_path / "deep.png").tobytes()  # as other commands see it
    box, mask, mesh, overlay, remark = show_new.fn(given)
    assert (box, mask) == ("", None)
    assert Path(mesh.value["path"]).read_bytes()[:4] == b"glTF"
    assert overlay.size == photo.size
    assert "whole frame" in remark
    assert show_new.fn(None) == ("", None, None, None, "")
    _the_object_may_be_given(show.fn, show_corner.fn, given, tmp_path)
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    for arguments, line in (
        ((str(tmp_path / "small.png"),), "at least 8 pixels"),
        ((given, "1 2 nine"), "four numbers"),
        ((given, "1 2 3"), "four finite numbers"),
        ((given, "10 5 60 60", str(tmp_path / "mask.png")), "got both"),
    ):
        with pytest.raises(gradio.Error, match=line) as refused:
            show.fn(*arguments)
        assert not refused.value.print_exception
    assert page.delete_cache is not None
    pictures = [part for part in page.blocks.values() if isinstance(part, gradio.Image)]
    assert all("share" not in picture.buttons for picture in pictures)
    # Gradio leaves an event loop behind, of whose sockets a later test would be warned.
    with suppress(RuntimeError):
        asyncio.get_event_loop().close()
    asyncio.set_event_loop(None)
    gc.collect()


def _the_object_may_be_given(
    show: Callable[..., Any], show_corner: Callable[..., Any], photo: str, folder: Path
) -> None:
    remarks = [show(photo, text)[2] for text in ("10 5 60 60", "10, 5, 60, 60")]
    assert set(remarks) == {"In the box that was given, 10 5 60 60."}
    mask = Image.new("L", load_photo(photo).size)
    mask.paste(255, (20, 10, 70, 40))
    mask.save(folder / "mask.png")
    assert show(photo, "", str(folder / "mask.png"))[2] == "In the box of the mask that was given, 20 10 70 40."
    select = import_module("gradio").SelectData
    box, *results = show_corner(photo, "1 2 3 4", None, select(None, {"index": (60, 5), "value": None}))
    assert box == "60 5"
    assert all(result["__type__"] == "update" for result in results)  # nothing is new
    box, *_, remark = show_corner(photo, box, None, select(None, {"index": (10, 60), "value": None}))
    assert box == "10 5 60 60"
    assert remark == remarks[0]


def test_the_remark_says_how_the_object_was_found(small_prediction: Prediction) -> None:
    found = replace(small_prediction, box=(1.0, 2.0, 30.6, 40.0), located_by="MaskSegmenter", valid=False)
    assert (
        _remark(found) == "Found by MaskSegmenter in the box 1 2 31 40. The camera is not valid: do not trust it."
    )


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
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "small.png")
    command = [sys.executable, "-m", "kpose", "app", "--checkpoint", checkpoints["keypoint"], "--port", str(port)]
    app = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(temporary)})
    try:
        address = next(line.split()[1] for line in app.stderr or [] if line.startswith("Open "))
        with open_browser() as (browser, errors, asked_for):
            browser.goto(address)
            browser.locator("input[type=file]").first.set_input_files(tmp_path / "robin.png")
            browser.locator("canvas").wait_for()
            pictures = map(_covered, [browser] * 200)  # until the whole of a mesh is seen from its side
            assert any(map(_is_long, pictures))
            picture = browser.locator("img").first
            area = picture.bounding_box()
            assert area is not None
            x, y = area["width"] / 2, area["height"] / 2  # the photo is shown in the middle, at its size
            picture.click(position={"x": x - 25, "y": y - 20})
            expect(browser.get_by_label("Box")).to_have_value(re.compile(r"^\d+ \d+$"))
            picture.click(position={"x": x + 25, "y": y + 20})
            browser.get_by_text("In the box that was given").wait_for()
            browser.get_by_label("Remove Image").first.click()
            browser.locator("input[type=file]").first.set_input_files(tmp_path / "small.png")
            browser.get_by_text("at least 8 pixels").first.wait_for()
        assert list(temporary.glob("kpose*"))
        app.send_signal(signal.SIGINT)
        _, log = app.communicate()
    finally:
        app.kill()
        app.wait()
    assert app.returncode == 130
    assert log.split("\n") == ["kpose app: Interrupted.", ""]  # no traceback of the small photo
    assert not [path for path in temporary.iterdir() if not path.name.startswith("torch")]
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
