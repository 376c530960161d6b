import base64
import re

import pytest
import torch
from pipeline.small import QUIET, birds

from kpose.backbones import TinyBackbone
from kpose.geometry import box_to_crop
from kpose.heads import QuaternionHead
from kpose.network import PoseNetwork
from kpose.pipeline import TrainingCameras
from kpose.pipeline.report import write_report
from kpose.reconstruction import CameraTable, ViewpointGrid
from kpose.tasks import ShapeTraining
from kpose.templates import bird

pytestmark = QUIET

SCORES = {"angle_deg": 71.26, "iou": 0.512, "loss": 3.14159}


@pytest.fixture
def data(cache, tmp_path):
    return birds(cache, num_train=10)


@pytest.fixture
def cameras(data, tmp_path):
    images = data.dataset("train")
    table = CameraTable(images.indices, names=images.names, grid=ViewpointGrid(2, 1))
    rows = table.rows(images.indices)
    table.set_reference_crop(rows, box_to_crop(torch.tensor([0.0, 0.0, 32.0, 32.0]).expand(10, 4)))
    table.set_score(rows, torch.rand(10, 2))
    table.save(tmp_path / "cameras.safetensors")
    return TrainingCameras(tmp_path / "cameras.safetensors", None, {}, None)


@pytest.fixture
def network():
    """A head that was never trained."""
    return PoseNetwork(TinyBackbone(width=8), QuaternionHead).eval()


def test_the_page_holds_figures_and_pictures(data, cameras, network, tmp_path):
    heads = {"quaternion": SCORES, "a <b>": {"iou": 0.25}}
    metrics = {"cameras": {"best_deg": 98.76}, "searched_cameras": None, "heads": heads}
    write_report(tmp_path, metrics, data, cameras, bird(), dict.fromkeys(heads, network))
    page = (tmp_path / "report.html").read_text()
    for text in ("98.8", "71.3", "0.512", "mean error, deg", "cameras, best_deg", "a &lt;b&gt;"):
        assert text in page, text
    assert "<b>" not in page
    assert "3.14" not in page
    assert page.count("data:image/png;base64,") == 3
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_the_page_needs_no_true_cameras(data, cameras, network, tmp_path):
    metrics = {"cameras": None, "heads": {"quaternion": {"iou": 0.5}}}
    write_report(tmp_path, metrics, data, cameras, bird(), {"quaternion": network})
    page = (tmp_path / "report.html").read_text()
    assert "mean error" not in page
    assert "Cameras of the training images" not in page


def test_training_images_show_the_shapes_of_stage_2(data, cameras, tmp_path):
    half = bird()._replace(vertices=bird().vertices / 2)
    trained = ShapeTraining(TinyBackbone(width=8), CameraTable(torch.arange(1)), half).eval()
    metrics, pages = {"cameras": None, "heads": {}}, []
    (tmp_path / "shapes.png").write_bytes(b"sheet")
    for shapes in (None, trained):
        write_report(tmp_path, metrics, data, cameras._replace(shapes=shapes), bird(), {})
        pages.append(re.findall(r"base64,([^\"]+)", (tmp_path / "report.html").read_text()))
    (mean,), (sheet, predicted) = pages
    assert base64.b64decode(sheet) == b"sheet"
    assert mean != predicted
