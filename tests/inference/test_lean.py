"""Predicting, by command too, imports no training code, and `kpose.Predictor` comes when it is asked for."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import kpose
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
main(["predict", *sys.argv[1:]])
print(json.dumps(sorted(sys.modules)))
"""


def test_the_predictor_is_there_when_it_is_asked_for() -> None:
    assert kpose.Predictor is Predictor
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = kpose.Nothing


def run(code: str, *arguments: str | Path) -> Any:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_first_prediction_imports_no_training_code(checkpoints: dict[str, Path]) -> None:
    found = run(CODE, checkpoints["keypoint"])
    assert not {*HEAVY, "trimesh"} & set(found["modules"])
    # Seconds of work, whatever else the machine does.
    assert found["import"] < 0.3
    assert found["seconds"] < 20


def test_the_command_imports_no_training_code(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "robin.png")
    modules = run(COMMAND, tmp_path, "--checkpoint", checkpoints["keypoint"], "--out", tmp_path / "out")
    assert not HEAVY & set(modules)
    assert (tmp_path / "out" / "robin.glb").exists()
