import json

import pytest
import pytorch_lightning as pl
import torch
from errors import analyze, main
from fakes import write_fake_cub
from PIL import Image

from kpose.backbones import TinyBackbone
from kpose.data import CUBDataModule
from kpose.geometry import viewpoint_to_matrix
from kpose.heads import QuaternionHead
from kpose.tasks import PoseEstimator


def rotations(azimuth, elevation, roll):
    return viewpoint_to_matrix(*(torch.tensor(angle).float().deg2rad() for angle in (azimuth, elevation, roll)))


def test_errors_are_split_by_angle_and_kind():
    true = rotations([10, 100, -170, 0], [0, 10, 0, 0], [0, 0, 0, 0])
    found = rotations([30, 100, 170, 0], [0, -20, 0, 0], [0, 0, 0, 0])
    figures = analyze(found, true, ["wren", "gull", "gull", "wren"])
    assert figures["angle_deg"] == pytest.approx((20 + 30 + 20 + 0) / 4, abs=0.01)
    assert figures["parts_deg"] == pytest.approx({"azimuth": 10, "elevation": 7.5, "roll": 0}, abs=0.01)
    assert figures["bins"]["azimuth"]["90 to 135"] == pytest.approx({"images": 1, "angle_deg": 30}, abs=0.01)
    assert list(figures["kinds"]) == ["gull", "wren"]
    assert figures["kinds"]["gull"] == pytest.approx({"images": 2, "angle_deg": 25, "share_of_worst": 1}, abs=0.01)


@pytest.mark.filterwarnings("ignore:The .* does not have many workers")
def test_a_checkpoint_is_looked_into(tmp_path, capsys):
    write_fake_cub(tmp_path / "cub")
    data = CUBDataModule(tmp_path / "cub", image_size=32, batch_size=4)
    task = PoseEstimator(TinyBackbone(width=8), QuaternionHead)
    trainer = pl.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "head.ckpt")
    main(tmp_path / "head.ckpt", tmp_path / "cub", tmp_path / "out", shown=2)
    figures = json.loads((tmp_path / "out" / "errors.json").read_text())
    assert 0 < figures["angle_deg"] < 180
    assert "| kind |" in capsys.readouterr().out
    with Image.open(tmp_path / "out" / "worst.png") as sheet:
        assert sheet.width > 96
