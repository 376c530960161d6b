"""Predicting, by command too, imports no training code, and `kpose.Predictor` comes when it is asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import kpose
import kpose.data
from kpose.inference import Predictor

HEAVY = {"pytorch_lightning", "lightning", "torchmetrics", "tensorboard", "transformers"}
CODE = """
import json, sys, time
import kpose
imported = time.process_time()
predictor = kpose.Predictor.from_checkpoint(sys.argv[1])
import torch
[found] = predictor(torch.rand(3, 90, 120))
assert found.mask.shape == (90, 120)
print(json.dumps({"seconds": time.process_time(), "import": imported, "modules": sorted(sys.modules)}))
"""

COMMAND = """
import json, sys
from kpose.cli import main
main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
"""


def test_the_predictor_is_there_when_it_is_asked_for() -> None:
    assert kpose.Predictor is Predictor
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = kpose.Nothing


def run(code: str, *arguments: str | Path) -> Any:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    # Threads that wait for one another on a busy machine would count as work.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_first_prediction_imports_no_training_code(checkpoints: dict[str, Path]) -> None:
    found = run(CODE, checkpoints["keypoint"])
    assert not {*HEAVY, "trimesh"} & set(found["modules"])
    # Seconds of work, whatever else the machine does.
    assert found["import"] < 0.3
    assert found["seconds"] < 10


@pytest.mark.parametrize("command", ["predict", "video"])
def test_a_command_imports_no_training_code(command: str, checkpoints: dict[str, Path], tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.new("RGB", (40, 30)).save(photos / "robin.png")
    given = ["--box", "5", "5", "30", "20", "--no-overlay"] if command == "video" else []
    modules = run(COMMAND, command, photos, "--checkpoint", checkpoints["keypoint"], "--out", out, *given)
    assert not HEAVY & set(modules)
    assert (out / ("photos_cameras.csv" if command == "video" else "robin.glb")).exists()


def test_data_modules_come_when_they_are_asked_for() -> None:
    assert set(kpose.data.__all__) < set(dir(kpose.data))
    for name in kpose.data.__all__:
        assert getattr(kpose.data, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = kpose.data.Nothing
