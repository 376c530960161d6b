import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from kpose.backbones import TinyBackbone
from kpose.heads import PoseHead
from kpose.templates import bird

import ablations

EXAMPLES = Path(__file__).parents[3] / "examples"
CONFIGS = EXAMPLES / "configs" / "ablations"
SMALL = (
    "--data.init_args.num_train=4",
    "--data.init_args.num_val=1",
    "--data.init_args.num_test=3",
    "--data.init_args.image_size=32",
    "--data.init_args.batch_size=2",
    "--epochs=1",
    "--precision=32-true",
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    # Lightning 2.6 still registers instantiators the old way.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


def run(folder: Path, *arguments: str) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES / "custom_head"))
        config = ("--config", str(CONFIGS / "synthetic.yaml"), f"--data.init_args.cache_dir={folder / 'cache'}")
        patch.setattr(sys, "argv", ["ablations.py", *config, f"--out={folder}", *SMALL, *arguments])
        runpy.run_path(str(EXAMPLES / "reproduction" / "ablations.py"), run_name="__main__")
    return json.loads((folder / "ablations.json").read_text())


HEADS = (
    "--variants={default: {class_path: KeypointHead, init_args: {num_keypoints: 8, width: 8}}, "
    "coarse: {class_path: KeypointHead, init_args: {num_keypoints: 8, width: 8}}, "
    "axis-angle: {class_path: axis_angle.AxisAngleHead}}",
    "--maps={coarse: [2, 3]}",
)


def test_variants_are_trained_once_for_each_seed(tmp_path):
    first = run(tmp_path, *HEADS, "--seeds=[0]", "--backbone_lr=1e-4")
    trained = first["groups"]["trained"]
    assert list(trained) == ["default", "coarse", "axis-angle"]
    kept = (tmp_path / "scores" / "default-0.json").stat().st_mtime_ns
    both = run(tmp_path, *HEADS, "--seeds=[0, 1]", "--backbone_lr=1e-4")["groups"]
    assert (tmp_path / "scores" / "default-0.json").stat().st_mtime_ns == kept
    for rows in both.values():
        for seeds in rows.values():
            assert list(seeds) == ["0", "1"]
            assert all(0 <= scores["angle_deg"] <= 180 for scores in seeds.values())
    assert both["trained"]["default"]["0"] == trained["default"]["0"]
    # The default way to solve for the camera is what the head does.
    (readings,) = (rows for title, rows in both.items() if title != "trained")
    read = readings["best half by confidence, weighted (default)"]["0"]
    for name, value in read.items():
        assert value == pytest.approx(both["trained"]["default"]["0"][name], abs=1e-3), name
    page = (tmp_path / "ablations.md").read_text()
    assert re.search(r"\| camera: least squares, best half \| .* \| 2 \|", page)


def test_maps_of_an_unknown_variant_are_refused(tmp_path):
    with pytest.raises(ValueError, match="maps needs names of variants"):
        run(tmp_path, *HEADS, "--maps={none: [0]}")


@pytest.mark.parametrize(
    "config", sorted(set(CONFIGS.glob("*.yaml")) - {CONFIGS / "camera_choice.yaml"}), ids=lambda path: path.stem
)
def test_configured_variants_are_heads(config, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES / "custom_head"))
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_function_arguments(ablations.main, as_positional=False, skip={"data", "backbone"})
    for part in ("data", "backbone"):  # neither photographs nor weights are needed here
        parser.add_argument(f"--{part}", type=dict)
    variants = parser.instantiate(parser.parse_args(["--config", str(config), "--out=x"])).variants
    assert variants
    for head in variants.values():
        assert isinstance(head(TinyBackbone(width=8).spec, bird()), PoseHead)
