import json
import shutil
from pathlib import Path

import pytest
import yaml
from pipeline.small import BATCH, IMAGES, QUIET, files

from table1 import DATA, main

pytestmark = QUIET

EXAMPLES = Path(__file__).parents[3] / "examples" / "custom_head"
SEEDS = ("0", "5")


QUATERNION = {"class_path": "QuaternionHead"}


def write_config(path, cache):
    sizes = {"num_train": IMAGES, "num_val": 2, "num_test": 8, "image_size": 32, "batch_size": BATCH}
    settings = {
        "data": {"class_path": "SyntheticBirdsDataModule", "init_args": {**sizes, "cache_dir": str(cache)}},
        "backbone": {"class_path": "TinyBackbone", "init_args": {"width": 8}},
        "heads": {"quaternion": QUATERNION},
        "search": {
            "levels": [{"size": 16, "steps": 3, "lr": 0.1, "sigma": 4.0e-4}],
            "grid": {"azimuths": 4, "elevations": 1},
            "num_vertices": 100,
            "batch_size": 8,
        },
        "pose": {"epochs": 1, "batch_size": 8},
        "trainer": {"accelerator": "cpu"},
    }
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Folder of runs with a head of the user's own, one seed and then two, in the folder that holds that head."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copy(EXAMPLES / "axis_angle.py", folder)
    (folder / "heads.yaml").write_text("axis_angle: {class_path: axis_angle.AxisAngleHead}")
    config = write_config(folder / "config.yaml", folder / "birds")
    arguments = ["--data", str(config), "--out", "out", "--heads", "heads.yaml", "--seeds"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(str(folder))
        main([*arguments, SEEDS[0]])
        once = files(folder / "out")
        main([*arguments, *SEEDS])
        twice = files(folder / "out")
        assert {path: twice[path] for path in once} == once
        assert len([path for path in twice.keys() - once.keys() if path.name == "last.ckpt"]) == 2
        main([*arguments, *SEEDS])
        assert files(folder / "out") == twice
    return folder


def test_every_head_is_trained_with_every_seed_on_the_same_cameras(done):
    figures = json.loads((done / "out" / "table1.json").read_text())
    assert list(figures["heads"]) == ["quaternion", "axis_angle"]
    for name, head in figures["heads"].items():
        assert tuple(head["seeds"]) == SEEDS
        first, second = (head["seeds"][seed] for seed in SEEDS)
        assert first["angle_deg"] != second["angle_deg"]
        mean = (first["angle_deg"] + second["angle_deg"]) / 2
        assert head["mean"]["angle_deg"] == pytest.approx(mean)
        assert head["spread"]["angle_deg"] == pytest.approx(2**0.5 * abs(first["angle_deg"] - mean))
        assert (head["paper"] is None) == (name == "axis_angle")
        for key in ("iou_true_rotation", "train_label_deg", "train_angle_deg", "step_ms", "peak_mib"):
            assert key in head["mean"], (name, key)
        assert (done / "out" / f"{name}.ckpt").exists()
    assert len(list((done / "out" / "cameras").iterdir())) == 1
    assert figures["cameras"]["best_deg"] > 0
    assert figures["data"]["train_images"] == 24
    assert figures["settings"]["pose"]["epochs"] == 1
    assert figures["origin"]["command"].endswith("--data config.yaml --out out --heads heads.yaml --seeds 0 5")


def test_the_page_says_the_same(done):
    figures = json.loads((done / "out" / "table1.json").read_text())
    text = (done / "out" / "results.md").read_text()
    mean, spread = (figures["heads"]["quaternion"][key]["angle_deg"] for key in ("mean", "spread"))
    assert f"| quaternion | {mean:.1f} ± {spread:.1f} |" in text
    assert "| 45.5 | 0.62 |" in text
    assert "24 training and 8 held-out images of SyntheticBirdsDataModule" in text
    assert str(done) not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--heads", "nowhere.yaml"], "nowhere.yaml"),
        (["--seed", "-1"], "needs seeds from 0"),
        (["--heads", "double.yaml"], "needs names that no head of the table has; got quaternion, svd"),
        (["--pose.epochs", "0"], "epochs from 1; got 0"),
        (["--nothing", "1"], "nothing"),
    ],
)
def test_wrong_input_gives_one_line(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_config(tmp_path / "config.yaml", tmp_path)
    # One name of the configuration, one of the paper.
    (tmp_path / "double.yaml").write_text(yaml.safe_dump(dict.fromkeys(("svd", "mine", "quaternion"), QUATERNION)))
    with pytest.raises(SystemExit) as left:
        main(["--data", "config.yaml", "--out", "out", *arguments])
    assert left.value.code.startswith("table1.py: ")
    assert message in left.value.code
    assert "\n" not in left.value.code
    assert files(tmp_path / "out") == {}


def test_seeds_out_of_range_are_refused(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--data", "synthetic", "--out", "out", "--seeds", str(2**32)])
    assert left.value.code == 2
    assert "got 4294967296" in capsys.readouterr().err


def test_missing_photographs_are_reported_before_a_backbone_is_looked_for(tmp_path):
    arguments = ["--data", "cub", "--root", str(tmp_path / "nowhere"), "--backbone", "nobody/nothing"]
    with pytest.raises(SystemExit) as left:
        main([*arguments, "--out", str(tmp_path / "out")])
    assert "nowhere" in left.value.code
    assert "nobody" not in left.value.code


@pytest.mark.parametrize("data", DATA)
def test_named_configurations_have_the_heads_of_the_paper(data):
    heads = yaml.safe_load(DATA[data].read_text(encoding="utf-8"))["heads"]
    assert {"quaternion", "gram_schmidt", "svd", "keypoint"} <= heads.keys()
