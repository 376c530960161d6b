"""The configurations of the pipeline: each is understood whole, and names heads and stages that can be built."""

import dataclasses
from pathlib import Path
from unittest.mock import Mock

import pytest

from kpose.pipeline import Pipeline
from kpose.pipeline.command import main, pipeline_arguments

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


def test_every_file_is_tested():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == LAYERS.keys()


@pytest.mark.parametrize("name", LAYERS)
def test_a_configuration_is_understood(name, tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(Pipeline, "run", lambda self: made.append(self) or {})
    files = [f"--config={CONFIGS / layer}.yaml" for layer in LAYERS[name]]
    assert main([*files, f"--out={tmp_path}"]) == 0
    (pipeline,) = made
    assert (pipeline.choice is None) == (name in ("cub-cpu", "cub-paper"))
    assert (pipeline.reconstruction is None) == (not name.startswith("cub-"))
    if name == "cub-paper":  # nothing of cub-improved.yaml is left in stage 2
        assert (pipeline.reconstruction.render_size, pipeline.reconstruction.model) == (None, {})
    if name == "cub-cpu":
        assert "feature_dropout" not in pipeline.reconstruction.model
    # Heads are built for a backbone that needs no weights; the data and the mean shape are the reader's.
    pipeline.template = None
    pipeline.backbone = {"class_path": "TinyBackbone"}
    pipeline.pose = dataclasses.replace(pipeline.pose, cached_views=0)
    monkeypatch.setattr(pipeline, "data_module", Mock())
    pipeline.check()
    assert "keypoint" in pipeline.heads


@pytest.mark.parametrize("name", [name for name, layers in LAYERS.items() if layers[0] == "cub-improved"])
def test_a_configuration_is_whole_by_itself(name):
    alone, layered = (
        pipeline_arguments([*(f"--config={CONFIGS / layer}.yaml" for layer in layers), "--out=out"])
        for layers in ([name], LAYERS[name])
    )
    assert alone == layered
    assert pipeline_arguments(["--config", f"{CONFIGS / name}.yaml", "--out", "out"]) == alone
