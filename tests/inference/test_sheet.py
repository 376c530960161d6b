"""Sheets of what photos gave."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from inference.conftest import picture
from PIL import Image

from kpose.geometry import apply_crop
from kpose.inference import Predictor, prediction_sheet
from kpose.inference.sheet import sheet_row
from kpose.structures import Mesh
from kpose.visualization import draw_keypoints

KEYPOINT_COLUMNS = ["photo", "keypoints", "overlay", "as seen", "from the right", "from above"]


@pytest.mark.parametrize(("head", "columns"), [("keypoint", 6), ("quaternion", 5)])
def test_every_head_fills_a_row(head: str, columns: int, checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints[head])
    found = predictor([picture(), picture((20, 200), 1)], box=[(10, 5, 60, 60), None])
    row = sheet_row(found[0], 48)
    names = [name.removesuffix(" (not valid)") for name in row]
    assert names == [name for name in KEYPOINT_COLUMNS if columns == 6 or name != "keypoints"]
    assert all(max(drawn.shape) == 48 and drawn.min() >= 0 and drawn.max() <= 1 for drawn in row.values())
    sheet = prediction_sheet(found, ["robin", "wren"], size=48)
    assert sheet.shape == (3, 2 * (48 + 12 + 18), columns * (48 + 12))


def test_a_sheet_needs_photos_and_their_names(checkpoints: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="A sheet needs photos"):
        prediction_sheet([])
    found = Predictor.from_checkpoint(checkpoints["quaternion"])(picture())
    with pytest.raises(ValueError, match="A sheet needs photos"):
        prediction_sheet(found, ["robin", "wren"], size=16)
    other = Predictor.from_checkpoint(checkpoints["keypoint"])(picture())
    with pytest.raises(ValueError, match="A sheet needs photos"):
        prediction_sheet(found + other, size=16)


def test_the_photo_is_framed_where_the_network_saw_less(checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints["quaternion"], segmenter=None)
    black = Image.new("RGB", (64, 32))
    whole, part = predictor([black, black], box=[None, (20, 6, 40, 26)])
    assert sheet_row(whole, 64)["photo"].max() == 0
    framed = sheet_row(part, 64)["photo"]
    rows, columns = (framed[0] > 0.9).nonzero().unbind(-1)
    assert framed.shape == (3, 32, 64)
    left, top, right, bottom = (round(edge) for edge in part.square)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (left, top, right, bottom)
    assert framed[:, 16, 30].max() == 0


def test_keypoints_lie_where_the_crop_has_them(checkpoints: dict[str, Path]) -> None:
    predictor = Predictor.from_checkpoint(checkpoints["keypoint"])
    [found] = predictor(Image.new("RGB", (96, 72), "white"), box=(10, 5, 60, 60))
    assert found.keypoints is not None
    assert found.confidence is not None
    drawn = sheet_row(replace(found, inliers=None), 200)["keypoints"]
    surest = found.confidence.argmax()[None]
    point = (apply_crop(found.keypoints[surest], found.crop) + 1) * 100
    dot = draw_keypoints(torch.zeros(3, 200, 200), point, found.confidence[surest])
    inside = dot.amax(0) > 0.1
    torch.testing.assert_close(drawn[:, inside].mean(1), dot[:, inside].mean(1), atol=0.03, rtol=0)


def test_a_texture_of_its_own_is_shown(checkpoints: dict[str, Path]) -> None:
    [found] = Predictor.from_checkpoint(checkpoints["quaternion"])(Image.new("RGB", (64, 64), "blue"))
    blue = sheet_row(found, 32)["as seen"]
    template = Predictor.from_checkpoint(checkpoints["quaternion"]).network.template
    red = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 8, 16)
    mesh = Mesh(template.vertices, template.faces, template.uv, template.uv_faces, red)
    own = sheet_row(replace(found, mesh=mesh), 32)["as seen"]
    for view, channel in ((blue, 2), (own, 0)):
        inside = view.amin(0) < 0.1
        assert inside.sum() > 50
        assert view[channel][inside].mean() > 0.4
        assert view[2 - channel][inside].mean() < 0.2
