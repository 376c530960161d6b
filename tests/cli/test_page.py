"""The page of ``kpose predict`` shows the results from the disk, without a network."""

import re
from pathlib import Path

import pytest
import torch
from cli.browser import needs_chromium, open_browser, pixels
from PIL import Image

from kpose.cli.page import write_page
from kpose.cli.results import PhotoResult
from kpose.geometry import box_to_crop
from kpose.inference import Prediction
from kpose.structures import Camera, Mesh
from kpose.templates import bird


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write two results, one with a red and one with a blue texture."""
    shape = bird()
    square = (0.0, 0.0, 90.0, 90.0)
    camera = Camera(torch.tensor(40.0), torch.tensor([45.0, 45.0]), torch.eye(3))
    for name, color in (("red & <b>", [1.0, 0.0, 0.0]), ("blue", [0.0, 0.0, 1.0])):
        texture = torch.tensor(color)[:, None, None].expand(3, 8, 16)
        prediction = Prediction(
            camera=camera,
            crop_camera=camera,
            crop=box_to_crop(torch.tensor(square)),
            square=square,
            box=None,
            located_by="frame",
            size=(90, 90),
            source=Image.new("RGB", (90, 90)),
            score=0.75,
            expected_error_deg=21.5,
            mesh=Mesh(shape.vertices, shape.faces, shape.uv, shape.uv_faces, texture),
        )
        PhotoResult(Path(f"{name}.png"), tmp_path, name.split()[0], "made").write(prediction)
    return tmp_path


def test_the_page_lists_what_is_whole(folder: Path) -> None:
    (folder / "blue.glb").with_name("foreign.json").write_text('{"kpose": 1}')
    page = write_page(folder, {Path("<bad>.jpg"): "It is <empty> & bad."}).read_text()
    assert re.findall(r'data-name="(.*?)"', page) == ["blue", "red"]
    assert "&lt;bad&gt;.jpg</b>: It is &lt;empty&gt; &amp; bad." in page
    assert page.count("whole frame") == 2
    (folder / "viewer" / "blue.html").unlink()
    assert re.findall(r'data-name="(.*?)"', write_page(folder, {}).read_text()) == ["red"]


def test_the_pages_name_nothing_on_the_network(folder: Path) -> None:
    assert "://" not in write_page(folder, {}).read_text()
    page = (folder / "viewer" / "red.html").read_text()
    found = set(re.findall(r"https?://[\w./-]+", page))
    # A namespace, and a link in the text of a warning.
    assert all(link.startswith(("http://www.w3.org/", "https://github.com/mrdoob/three.js/")) for link in found)
    assert "SPDX-License-Identifier: MIT" in page


@needs_chromium
def test_a_browser_shows_the_meshes(folder: Path) -> None:
    page = write_page(folder, {})
    with open_browser() as (browser, errors, asked_for):
        browser.goto(page.resolve().as_uri())
        shown = []
        for name in ("blue", "red"):  # the first by name is shown at once
            browser.locator(f"[data-name={name}]").click()
            assert browser.locator("#status").text_content() == name
            browser.frame_locator("#view").locator("canvas").wait_for()
            browser.wait_for_timeout(500)
            shown.append(pixels(browser.locator("#view")))
    assert errors == []
    assert all(address.startswith((folder.resolve().as_uri(), "data:", "blob:")) for address in asked_for)
    for picture, channel in zip(shown, (2, 0), strict=True):  # each with its texture, on a light ground
        textured = (picture[..., channel] > 100) & (picture[..., 2 - channel] < 90)
        assert textured.sum() > 5000
        assert picture[5, 250].min() > 200


def test_the_page_says_how_sure_a_pose_is(folder: Path) -> None:
    text = write_page(folder, {}).read_text(encoding="utf-8")
    assert text.count("score 0.75, about 22° off") == 2
