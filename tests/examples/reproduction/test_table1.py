import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml
from pipeline.small import BACKBONE, KEYPOINT, QUATERNION, QUIET, birds, files

from kpose.pipeline import Pipeline

from table1 import main

pytestmark = QUIET

EXAMPLES = Path(__file__).parents[3] / "examples" / "custom_head"
SEEDS = ("0", "5")


def write_config(path, cache, **changes):
    settings = {
        "data": birds(cache),
        "backbone": BACKBONE,
        "heads": {"quaternion": QUATERNION, "keypoint": KEYPOINT},
        "search": {
            "levels": [{"size": 16, "steps": 3, "lr": 0.1, "sigma": 4.0e-4}],
            "grid": {"azimuths": 4, "elevations": 1},
            "num_vertices": 100,
            "batch_size": 8,
        },
        "choice": {"num_vertices": 100, "num_rotations": 200, "rounds": 1},
        "pose": {"epochs": 1, "batch_size": 8},
        "accelerator": "cpu",
        **changes,
    }
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Folder of runs with the two example heads, one seed and then two, in the folder that holds those heads."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
    config = write_config(folder / "config.yaml", folder / "birds")
    arguments = ["--data", str(config), "--out", "out", "--heads", "heads.yaml", "--seeds"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        assert main([*arguments, SEEDS[0]]) == 0
        once = files(folder / "out")
        assert main([*arguments, *SEEDS]) == 0
        again = files(folder / "out")
        assert {path: again[path] for path in once} == once
        assert {path.parts[0] for path in again.keys() - once.keys()} == {"heads", "training_errors"}
        assert len([path for path in again.keys() - once.keys() if path.name == "last.ckpt"]) == 4
    return folder, [*arguments, *SEEDS]


def test_every_head_is_trained_with_every_seed_on_the_same_cameras(done):
    out = done[0] / "out"
    figures = json.loads((out / "table1.json").read_text())
    assert list(figures["heads"]) == ["quaternion", "keypoint", "axis_angle", "rotation_bins"]
    for name, head in figures["heads"].items():
        assert tuple(head["seeds"]) == SEEDS
        first, second = (head["seeds"][seed] for seed in SEEDS)
        assert first["angle_deg"] != second["angle_deg"]
        mean = (first["angle_deg"] + second["angle_deg"]) / 2
        assert head["mean"]["angle_deg"] == pytest.approx(mean)
        assert head["spread"]["angle_deg"] == pytest.approx(2**0.5 * abs(first["angle_deg"] - mean))
        assert (head["paper"] is None) == (name in ("axis_angle", "rotation_bins"))
        for key in ("iou_true_rotation", "iou_true_placement", "train_label_deg", "train_angle_deg", "peak_mib"):
            assert key in head["mean"], (name, key)
    assert len(list((out / "cameras").iterdir())) == len(list((out / "choice").iterdir())) == 1
    assert figures["cameras"]["best_deg"] > 0
    assert figures["data"]["train_images"] == 24


def test_the_files_say_the_same(done):
    out = done[0] / "out"
    figures = json.loads((out / "table1.json").read_text())
    rows = list(csv.DictReader((out / "table1.csv").read_text().splitlines()))
    assert [(row["head"], row["seed"]) for row in rows] == [(n, s) for n in figures["heads"] for s in SEEDS]
    for row in rows:
        assert float(row["iou"]) == figures["heads"][row["head"]]["seeds"][row["seed"]]["iou"]
    text = (out / "results.md").read_text()
    mean = figures["heads"]["keypoint"]["mean"]["angle_deg"]
    spread = figures["heads"]["keypoint"]["spread"]["angle_deg"]
    assert f"| keypoints | {mean:.1f} ± {spread:.1f} |" in text
    assert "| 40.5 | 0.70 |" in text
    assert "python examples/reproduction/table1.py --data config.yaml" in text
    assert "--out out --heads heads.yaml --seeds 0 5" in text
    assert "24 training and 8 held-out images of SyntheticBirdsDataModule" in text
    assert str(done[0]) not in text


def test_a_second_run_does_nothing_again(done, monkeypatch):
    folder, arguments = done
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    before = files(folder / "out")
    assert main(arguments) == 0
    assert files(folder / "out") == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "nowhere"], 2, "one of cub, synthetic or a configuration file; there is no nowhere"),
        (["--heads", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["--heads", "config.yaml"], 2, "Got value: cpu"),
        (["--seeds", "1", "1"], 1, "distinct seeds; got [1, 1]"),
        (["--seeds", "0", "-1"], 1, "needs seeds from 0 to 4294967295; got -1"),
        (["--seeds", str(2**32)], 1, "got 4294967296"),
        (["--seed", "-1"], 1, "Pipeline needs seeds from 0"),
        (["--heads", "double.yaml"], 2, "needs names that no head of the table has; got keypoint, svd"),
        (["--pose.epochs", "many"], 2, "epochs"),
        (["--pose.epochs", "0"], 2, "PoseSettings needs epochs from 1; got 0"),
        (["--nothing", "1"], 2, "nothing"),
    ],
)
def test_wrong_input_gives_one_line_and_a_code(arguments, code, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "config.yaml", tmp_path)
    # One name of the configuration, one of the paper.
    (tmp_path / "double.yaml").write_text(
        yaml.safe_dump({"svd": QUATERNION, "mine": QUATERNION, "keypoint": KEYPOINT})
    )
    assert main(["--data", "config.yaml", "--out", "out", *arguments]) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("table1.py: ")
    assert message in line
    assert files(tmp_path / "out") == {}


def test_missing_photographs_are_told_before_a_backbone_is_looked_for(tmp_path, capsys):
    arguments = ["--data", "cub", "--root", str(tmp_path / "nowhere"), "--backbone", "nobody/nothing"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "nowhere" in line
    assert "nobody" not in line


@pytest.mark.parametrize("data", ["cub", "synthetic"])
def test_the_configurations_that_come_along_have_the_heads_of_the_paper(data, tmp_path, monkeypatch):
    made = []

    def stop(pipeline):
        made.append(pipeline)
        raise ValueError("far enough")

    monkeypatch.setattr(Pipeline, "check", stop)
    more = ["--root", "birds", "--backbone", "resnet"] if data == "cub" else []
    assert main(["--data", data, "--out", str(tmp_path), *more]) == 1
    assert {"quaternion", "gram_schmidt", "svd", "keypoint"} <= made[0].heads.keys()
    if data == "cub":
        assert made[0].data["init_args"]["root"] == "birds"
        assert made[0].backbone["init_args"]["name"] == "resnet"
        assert made[0].pose.cached_views
