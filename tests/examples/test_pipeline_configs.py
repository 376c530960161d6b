"""The configurations of the pipeline: each is understood whole, and names heads and stages that can be built."""

import inspect
from pathlib import Path

import pytest
from pipeline.small import birds

from kpose.backbones import TinyBackbone
from kpose.cli.pipeline import build_pipeline, parse_pipeline
from kpose.heads import PaperKeypointHead
from kpose.reconstruction import MultiplexObjective, TextureHead
from kpose.tasks import ShapeTraining

CONFIGS = Path(__file__).parents[2] / "examples" / "configs" / "pipeline"
LAYERS = {
    "synthetic": ["synthetic"],
    "demo": ["synthetic", "demo"],
    "cub-improved": ["cub-improved"],
    "cub-cpu": ["cub-improved", "cub-cpu"],
    "cub-paper": ["cub-improved", "cub-paper"],
    "own_category": ["own_category"],
}

# Lightning 2.6 still registers instantiators the old way.
pytestmark = pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")


def default(function, name):
    return inspect.signature(function).parameters[name].default


def test_every_file_is_tested():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == LAYERS.keys()


@pytest.mark.parametrize("name", LAYERS)
def test_a_configuration_is_understood(cache, name, tmp_path, monkeypatch):
    settings = parse_pipeline(
        [*(f"--config={CONFIGS / layer}.yaml" for layer in LAYERS[name]), f"--out={tmp_path}"]
    )
    assert (settings.choice is None) == (name in ("cub-cpu", "cub-paper"))
    assert (settings.shapes is None) == (not name.startswith("cub-"))
    if name == "cub-paper":  # nothing of cub-improved.yaml is left in stage 2 and the keypoint head
        task, head = settings.shapes.task.init_args, settings.heads["keypoint"].init_args
        texture = task.reconstructor.init_args.texture.init_args
        assert all(value == default(TextureHead, key) for key, value in vars(texture).items())
        assert (task.optimizer.init_args.lr, task.distance) == (1e-4, None)
        for key in ("render_size", "camera_lr", "feature_dropout"):
            assert task[key] == default(ShapeTraining, key), key
        objective = task.objective.init_args
        assert all(value == default(MultiplexObjective, key) for key, value in vars(objective).items())
        assert all(value == default(PaperKeypointHead, key) for key, value in vars(head).items())
    if name == "cub-cpu":
        assert settings.shapes.task.init_args.feature_dropout == 0
    # All is built for a backbone that needs no weights; the data and the mean shape are the reader's.
    settings.template, settings.backbone, settings.views = None, TinyBackbone(width=8), 0
    monkeypatch.setattr("kpose.cli.pipeline.instantiate_data", lambda _: birds(cache))
    pipeline = build_pipeline(settings)
    pipeline.check()
    assert "keypoint" in pipeline.heads


@pytest.mark.parametrize("name", [name for name, layers in LAYERS.items() if layers[0] == "cub-improved"])
def test_a_configuration_is_whole_by_itself(name):
    layered = parse_pipeline([*(f"--config={CONFIGS / layer}.yaml" for layer in LAYERS[name]), "--out=out"])
    assert parse_pipeline(["--config", f"{CONFIGS / name}.yaml", "--out", "out"]) == layered
