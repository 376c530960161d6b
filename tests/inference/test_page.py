"""The page of ``kpose predict`` shows the results from the disk, without a network."""

import re
from pathlib import Path

import pytest
import torch
from inference.browser import Browser, needs_chromium
from PIL import Image

from kpose.geometry import box_to_crop
from kpose.inference import Prediction
from kpose.inference.page import write_page
from kpose.inference.results import PhotoResult
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
            mesh=Mesh(shape.vertices, shape.faces, shape.uv, shape.uv_faces, texture),
        )
        PhotoResult(tmp_path, name.split()[0]).write(Path(f"{name}.png"), "made", prediction)
    return tmp_path


def test_the_page_lists_what_is_whole(folder: Path) -> None:
    (folder / "blue.glb").with_name("foreign.json").write_text('{"kpose": 1}')
    page = write_page(folder, [(Path("<bad>.jpg"), "It is <empty> & bad.")]).read_text()
    assert re.findall(r'data-name="(.*?)"', page) == ["blue", "red"]
    assert "&lt;bad&gt;.jpg</b>: It is &lt;empty&gt; &amp; bad." in page
    assert page.count("whole frame") == 2
    (folder / "viewer" / "blue.js").unlink()
    assert re.findall(r'data-name="(.*?)"', write_page(folder, []).read_text()) == ["red"]


def test_the_page_names_nothing_on_the_network(folder: Path) -> None:
    page = write_page(folder, []).read_text() + (folder / "viewer" / "viewer.js").read_text()
    assert "://" not in page
    library = (folder / "viewer" / "three.js").read_text()
    found = set(re.findall(r"https?://[\w./-]+", library))
    # A namespace, and a link in the text of a warning.
    assert all(link.startswith(("http://www.w3.org/", "https://github.com/mrdoob/three.js/")) for link in found)
    assert "MIT" in library[:300]


def test_a_page_of_others_is_kept(folder: Path) -> None:
    (folder / "index.html").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite"):
        write_page(folder, [])
    assert (folder / "index.html").read_text() == "mine"
    write_page(folder, [], overwrite=True)
    write_page(folder, [])


@needs_chromium
def test_a_browser_shows_the_meshes(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    page = write_page(folder, [])
    with Browser(tmp_path_factory.mktemp("chromium")) as browser:
        browser.open(page.resolve().as_uri())
        browser.wait_for("document.getElementById('status')?.textContent == 'blue'")  # the first by name
        blue = browser.look("#view")
        browser.call("Runtime.evaluate", expression="document.querySelector('[data-name=red]').click()")
        browser.wait_for("document.getElementById('status').textContent == 'red'")
        red = browser.look("#view")
    assert browser.said == []
    assert all(address.startswith((folder.resolve().as_uri(), "blob:")) for address in browser.asked_for)
    for picture, channel in ((blue, 2), (red, 0)):  # each with its texture, on a light ground
        textured = (picture[..., channel] > 100) & (picture[..., 2 - channel] < 90)
        assert textured.sum() > 5000
        assert picture[5, 250].min() > 200
