"""The page of ``kpose predict`` shows the results from the disk, without a network."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kpose.geometry.camera import box_to_crop
from kpose.inference import Reconstruction
from kpose.inference.page import write_page
from kpose.inference.results import PhotoResult
from kpose.structures import Camera, Mesh
from kpose.templates import bird

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write two results, one with a red and one with a blue texture."""
    shape = bird()
    square = (0.0, 0.0, 90.0, 90.0)
    camera = Camera(torch.tensor(40.0), torch.tensor([45.0, 45.0]), torch.eye(3))
    for name, color in (("red & <b>", [1.0, 0.0, 0.0]), ("blue", [0.0, 0.0, 1.0])):
        texture = torch.tensor(color)[:, None, None].expand(3, 8, 16)
        reconstruction = Reconstruction(
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
        PhotoResult(tmp_path, name.split()[0]).write(Path(f"{name}.png"), "made", reconstruction)
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


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path; it draws the page of kpose predict")
def test_a_browser_shows_the_mesh(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    page, scratch = write_page(folder, []), tmp_path_factory.mktemp("chromium")
    drawn = scratch / "page.png"
    done = subprocess.run(
        [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader", "--disable-background-networking", f"--user-data-dir={scratch}/profile",
            "--window-size=1000,700", "--hide-scrollbars", "--virtual-time-budget=6000", "--enable-logging=stderr",
            f"--screenshot={drawn}", page.resolve().as_uri(),
        ],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert drawn.exists(), done.stderr[-2000:]
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert not said, said
    right = np.asarray(Image.open(drawn).convert("RGB")).astype(int)[60:500, 500:]
    blue = (right[..., 2] > 100) & (right[..., 0] < 90)
    assert blue.sum() > 5000  # the first by name is shown, with its texture
    assert right[5, 250].min() > 200  # on a light ground
