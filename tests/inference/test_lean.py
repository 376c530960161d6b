"""Predicting imports no training code, and `kpose.Predictor` comes when it is asked for."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import kpose
from kpose.inference import Predictor

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


def test_the_predictor_is_there_when_it_is_asked_for() -> None:
    assert kpose.Predictor is Predictor
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = kpose.Nothing


def test_a_first_prediction_imports_no_training_code(checkpoints: dict[str, Path]) -> None:
    command = [sys.executable, "-c", CODE, str(checkpoints["keypoint"])]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    heavy = {"pytorch_lightning", "lightning", "torchmetrics", "tensorboard", "trimesh", "transformers"}
    assert not heavy & set(found["modules"])
    # Seconds of work, whatever else the machine does.
    assert found["import"] < 0.3
    assert found["seconds"] < 20
