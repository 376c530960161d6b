"""Predicting, by command too, imports no training code, and `kpose.Predictor` comes when it is asked for."""

import json
import os
import subprocess
import sys
from pathlib import Path

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
checkpoint, photos, out = sys.argv[1:]
predictor = kpose.Predictor.from_checkpoint(checkpoint)
import torch
[found] = predictor(torch.rand(3, 90, 120))
assert found.mask.shape == (90, 120)
seconds, modules = time.process_time(), {"prediction": sorted(sys.modules)}
from kpose.cli import main
for command, given in (("predict", []), ("video", ["--box", "5", "5", "30", "20", "--no-overlay"])):
    main([command, photos, "--checkpoint", checkpoint, "--out", f"{out}/{command}", *given])
    modules[command] = sorted(sys.modules)
print(json.dumps({"seconds": seconds, "import": imported, "modules": modules}))
"""


def test_the_predictor_is_there_when_it_is_asked_for() -> None:
    assert kpose.Predictor is Predictor
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = kpose.Nothing


def test_a_first_prediction_and_the_commands_import_no_training_code(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.new("RGB", (40, 30)).save(photos / "robin.png")
    command = [sys.executable, "-c", CODE, *map(str, (checkpoints["keypoint"], photos, out))]
    # Threads that wait for one another on a busy machine would count as work.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert not {*HEAVY, "trimesh"} & set(found["modules"]["prediction"])
    for name in ("predict", "video"):
        assert not HEAVY & set(found["modules"][name]), name
    # Seconds of work, whatever else the machine does.
    assert found["import"] < 0.3
    assert found["seconds"] < 10
    assert (out / "predict" / "robin.glb").exists()
    assert (out / "video" / "photos_cameras.csv").exists()


def test_data_modules_come_when_they_are_asked_for() -> None:
    assert set(kpose.data.__all__) < set(dir(kpose.data))
    for name in kpose.data.__all__:
        assert getattr(kpose.data, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = kpose.data.Nothing
