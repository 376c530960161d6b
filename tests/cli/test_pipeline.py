import json

import pytest
import yaml
from pipeline.small import BATCH, IMAGES, QUIET, files
from pytorch_lightning.accelerators import CUDAAccelerator, MPSAccelerator

from kpose.cli import main as kpose
from kpose.cli.pipeline import main

pytestmark = QUIET

TASK = {
    "class_path": "kpose.tasks.ShapeTraining",
    "init_args": {
        "reconstructor": {
            "class_path": "kpose.reconstruction.MeshReconstructor",
            "init_args": {
                "texture": {
                    "class_path": "kpose.reconstruction.TextureHead",
                    "init_args": {"height": 8, "width": 2},
                }
            },
        },
        "camera_lr": 1e-2,
    },
}
SETTINGS = {
    "backbone": {"class_path": "TinyBackbone", "init_args": {"width": 8}},
    "heads": {"quaternion": {"class_path": "QuaternionHead"}},
    "search": {
        "levels": [{"size": 16, "steps": 3, "lr": 0.1, "sigma": 4.0e-4}],
        "grid": {"azimuths": 4, "elevations": 1},
        "num_vertices": 100,
        "batch_size": 8,
    },
    "pose": {"epochs": 1, "batch_size": 8},
    "trainer": {"accelerator": "cpu"},
}


def birds(cache):
    sizes = {"num_train": IMAGES, "num_val": 2, "num_test": 8, "image_size": 32, "batch_size": BATCH}
    return {"class_path": "SyntheticBirdsDataModule", "init_args": {**sizes, "cache_dir": str(cache)}}


@pytest.fixture
def config(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"data": birds(cache), **SETTINGS}))
    return path


def test_the_command_runs_all_stages_and_then_nothing_again(config, tmp_path, capsys):
    kpose(["pipeline", "--config", str(config), "--out", "out"])
    printed = capsys.readouterr().out
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert json.loads(printed[printed.rindex("\n{\n") :]) == metrics
    assert metrics["heads"]["quaternion"]["angle_deg"] > 0
    before = files(tmp_path / "out")
    kpose(["pipeline", "--config", str(config), "--out", "out"])
    assert json.loads(capsys.readouterr().out) == metrics
    assert files(tmp_path / "out") == before


def test_files_are_layered_and_single_settings_changed(config, cache, tmp_path):
    over = tmp_path / "over.yaml"
    shapes = {"epochs": 1, "prune_epoch": 0, "keep": 4, "task": TASK}
    choice = {"rounds": 1, "num_rotations": 200}
    over.write_text(yaml.safe_dump({"data": {"init_args": {"num_train": 8}}, "choice": choice, "shapes": shapes}))
    full = ["--config", str(config), "--config", str(over), "--data.init_args.num_test=4", "--pose.epochs=1"]
    assert main([*full, "--data.class_path=kpose.data.SyntheticBirdsDataModule", "--out=out"]) == 0
    made = {}
    for step in ("cameras", "choice", "shapes"):
        (note,) = (tmp_path / "out" / step).glob("*/done.json")
        made |= json.loads(note.read_text())
    assert made["data"]["class"] == "kpose.data.synthetic.SyntheticBirdsDataModule"
    assert (made["data"]["num_train"], made["data"]["num_test"], made["data"]["image_size"]) == (8, 4, 32)
    assert made["choice"]["init_args"]["rounds"] == 1
    assert made["shapes"]["init_args"]["task"]["init_args"]["camera_lr"] == 1e-2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data.class_path=NoData"], 2, "NoData"),
        (["--data.init_args.num_trains=3"], 2, "num_trains"),
        (["--data=pytorch_lightning.LightningDataModule"], 1, "a method `dataset`; got LightningDataModule"),
        (["--backbone={class_path: NoBackbone}"], 2, "NoBackbone"),
        (["--heads={q: {class_path: NoHead}}"], 2, "NoHead"),
        (["--heads={}"], 1, "needs a pose head; got none"),
        (["--pose.epochs=many"], 2, "epochs"),
        (["--template=nowhere.safetensors"], 1, "nowhere.safetensors"),
        (
            ["--data={class_path: FolderDataModule, init_args: {root: nowhere}}"],
            1,
            "read_folder needs nowhere/images",
        ),
        (["--config=nowhere.yaml"], 2, "nowhere.yaml"),
        (["--seed=-1"], 1, "needs seeds from 0 to 4294967295; got -1"),
        (["--pose.epochs=0"], 2, "PoseSettings needs epochs from 1; got 0"),
        (["--pose.epochs=-1"], 2, "epochs from 1; got -1"),  # which Lightning takes for no end
        (["--pose.feature_dropout=1"], 2, "feature_dropout in [0, 1); got 1"),
        (["--heads={q: {class_path: KeypointHead, init_args: {number: 3}}}"], 2, "number"),
        (["--heads={q: {class_path: KeypointHead, init_args: {sigma: -1.0}}}"], 1, "a positive sigma"),
        (["--shapes.epochs=0"], 2, "ShapeSettings needs epochs from 1; got 0"),
        (["--adaptation.epochs=0"], 2, "AdaptationSettings needs epochs from 1; got 0"),
        (["--search.batch_size=0"], 2, "SearchSettings needs batch_size from 1; got 0"),
        (["--search.levels=[]"], 2, "SearchSettings needs a level; got none"),
        (["--choice.rounds=0"], 2, "ChoiceSettings needs rounds from 1; got 0"),
        (["--shapes.task.init_args.camera_lrr=1"], 2, "camera_lrr"),
        (["--views=2"], 1, "a frozen backbone"),
    ],
)
def test_wrong_input_gives_one_line_and_a_code(arguments, code, message, config, tmp_path, capsys):
    assert main(["--config", str(config), "--out", "out", *arguments]) == code
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("kpose pipeline: ")
    assert message in line
    assert files(tmp_path / "out") == {}


def test_missing_data_are_told_before_a_backbone_is_looked_for(config, capsys):
    data = "--data={class_path: FolderDataModule, init_args: {root: nowhere}}"
    backbone = "--backbone={class_path: TransformersBackbone, init_args: {name: nobody/nothing}}"
    assert main(["--config", str(config), data, backbone, "--out=out"]) == 1
    assert "read_folder needs nowhere/images" in capsys.readouterr().err


def test_an_accelerator_that_is_not_there_is_one_line(config, monkeypatch, capsys):
    for kind in (CUDAAccelerator, MPSAccelerator):
        monkeypatch.setattr(kind, "is_available", staticmethod(lambda: False))
    assert main(["--config", str(config), "--out", "out", "--trainer.accelerator=gpu"]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith("kpose pipeline: No supported gpu")


@pytest.mark.parametrize("out", ["config.yaml", "config.yaml/out", "x" * 300])
def test_a_folder_that_cannot_be_made_is_one_line(out, config, capsys):
    assert main(["--config", str(config), "--out", out]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("kpose pipeline: ")
    assert out in line


def test_missing_parts_give_one_line(config, capsys):
    for part in ("heads", "data", "backbone"):
        settings = yaml.safe_load(config.read_text())
        del settings[part]
        other = config.with_name("other.yaml")
        other.write_text(yaml.safe_dump(settings))
        assert main(["--config", str(other), "--out", "out"]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert part in line


def test_the_process_ends_with_the_code(config):
    with pytest.raises(SystemExit) as left:
        kpose(["pipeline", "--config", str(config), "--out", "out", "--heads={}"])
    assert left.value.code == 1


def test_a_value_that_a_class_of_settings_refuses_is_one_line(config, capsys):
    config.write_text(config.read_text() + "shapes: {epochs: null}\n")
    assert main(["--config", str(config), "--out", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "epochs" in line


def test_files_that_are_layered_over_each_other_or_over_nothing_give_one_line(config, capsys):
    for base in ("config.yaml", "nowhere.yaml"):
        config.with_name("config.yaml").write_text(f"base: {base}\n")
        assert main(["--config", str(config), "--out", "out"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("kpose pipeline: ")


DAMAGED = {
    "not UTF-8": (b"seed: \xff", "utf-8"),
    "thousands of digits": (b"seed: " + b"9" * 5_000, "digits"),
    "code": (b"seed: !!python/object/apply:os.getcwd []", "constructor"),
    "no mapping": (b"- 1", "needs settings"),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_configuration_is_one_line(damage, config, capsys):
    content, word = DAMAGED[damage]
    config.write_bytes(content)
    assert main(["--config", str(config), "--out", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line
    with pytest.raises(SystemExit, match="2"):
        kpose(["fit", "--config", str(config)])
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line
