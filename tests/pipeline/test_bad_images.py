"""A pipeline on a folder of one's own, some of whose images cannot be used."""

import logging

import numpy as np
import pytest
from PIL import Image
from pipeline.small import QUIET, files, pipeline

from kpose.data import FolderDataModule

pytestmark = QUIET

IMAGES = 16


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (tmp_path / "own" / name).mkdir(parents=True)
    for number in range(IMAGES):
        photo = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize((64, 48))
        mask = Image.new("L", photo.size)
        mask.paste(255, (8 + number, 8, 40 + number, 32))
        photo.save(tmp_path / f"own/images/{number:02}.jpg", quality=95)
        mask.save(tmp_path / f"own/masks/{number:02}.png")
    return tmp_path / "own"


def folder(root, **changes):
    return FolderDataModule(root, image_size=32, batch_size=8, val_share=0.2, **changes)


def test_a_photo_that_is_cut_short_is_left_out_of_all_stages(root, tmp_path, caplog):
    photo = root / "images/03.jpg"
    photo.write_bytes(photo.read_bytes()[:-300])
    with caplog.at_level(logging.WARNING):
        metrics = pipeline(tmp_path / "out", tmp_path, data=folder(root)).run()
    assert metrics["heads"]["quaternion"]["iou"] >= 0
    page = (tmp_path / "out/report.html").read_text()
    assert page.count(f"<li>{photo}: it cannot be read") == 1
    reported = [line for line in caplog.messages if "03.jpg" in line]
    assert len(reported) == 1
    assert "it cannot be read (image file is truncated" in reported[0]


def test_a_split_that_is_not_there_is_reported_before_anything_is_done(root, tmp_path):
    with pytest.raises(ValueError, match=r"images in split 'tset' .*there are \['train', 'val'\]"):
        pipeline(tmp_path / "out", tmp_path, data=folder(root, test_split="tset")).run()
    assert files(tmp_path / "out") == {}
