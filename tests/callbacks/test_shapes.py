import math

import pytest
import torch
from PIL import Image
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from reconstruction.scenes import SIZE, birds
from reconstruction.training import QUIET, Data, task, trainer

from kpose.callbacks.shapes import LogShapes, picture_azimuths, picture_shape
from kpose.geometry import viewpoint_to_matrix

pytestmark = QUIET


def test_a_row_shows_photo_mask_rendering_and_three_views():
    model, batch = task(), birds()
    comparison = model.compare(batch, model.table.rows(batch["index"])).detach()
    picture = picture_shape(comparison, model.reconstructor.faces, 1)
    assert picture.shape == (3, SIZE, 6 * SIZE)
    assert torch.equal(picture[..., :SIZE], batch["image"][1])
    assert torch.equal(picture[0, :, SIZE : 2 * SIZE], batch["mask"][1].float())
    parts = picture.split(SIZE, -1)[2:]
    assert all(part.std() > 0.01 for part in parts)
    best = int(comparison.score[1].argmin())
    covered = comparison.covered[1, best]
    assert torch.allclose(parts[0][:, ~covered], torch.tensor(0.85))
    # A texture that has learned nothing is gray too, but darker; no black rim is left around it.
    assert parts[0][:, covered].min() > 0.2


def test_bars_stand_at_the_azimuths():
    azimuth = torch.tensor([-math.pi / 2 + 0.05] * 3 + [math.pi / 2 + 0.05])
    rotation = viewpoint_to_matrix(azimuth, torch.full((4,), 0.3), torch.full((4,), -0.2))
    picture = picture_azimuths(rotation)
    orange = (picture[0] > 0.85) & (picture[2] < 0.3)
    heights = orange.sum(0)
    left, right = heights[:180], heights[180:]
    assert left.max() == pytest.approx(3 * int(right.max()), abs=5)
    columns = heights.nonzero()[:, 0]
    assert columns.min() == pytest.approx(10 + 340 / 4, abs=3)
    assert columns.max() == pytest.approx(10 + 340 * 3 / 4 + 340 / 24, abs=3)


def test_tensorboard_gets_two_sheets(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = TensorBoardLogger(tmp_path, name="", version="run")
    callback = LogShapes(num_images=2, every_n_epochs=3)
    trainer(tmp_path, max_epochs=3, logger=logger, callbacks=[callback]).fit(task(), Data())
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0}).Reload()
    assert sorted(events.Tags()["images"]) == ["train/azimuths", "train/shapes"]
    assert len(events.Images("train/shapes")) == 2  # of the first epoch and of the last


def test_other_loggers_are_passed_over(tmp_path):
    trainer(tmp_path, logger=CSVLogger(tmp_path), callbacks=[LogShapes()]).fit(task(), Data())
    assert not list(tmp_path.rglob("*.png"))


def test_the_latest_sheets_are_kept_and_nothing_is_drawn_by_chance(tmp_path):
    for folder in (None, tmp_path / "sheets"):
        torch.manual_seed(5)
        drawn = LogShapes(num_images=2, every_n_epochs=9, folder=folder)
        trainer(tmp_path, max_epochs=2, callbacks=[drawn]).fit(task(), Data(shuffle=True))
        after = torch.rand(2)
        expected = after if folder is None else expected
        assert torch.equal(after, expected)
    sheets = {}
    for path in (tmp_path / "sheets").iterdir():
        with Image.open(path) as picture:
            sheets[path.name] = picture.size
    assert sheets.keys() == {"shapes.png", "azimuths.png"}
    assert sheets["azimuths.png"] == (360, 160)
    assert sheets["shapes.png"][0] >= 6 * SIZE
