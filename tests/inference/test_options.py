"""The options that the commands which predict share."""

import argparse
from pathlib import Path

import pytest
import torch

from kpose.inference import Predictor
from kpose.inference.options import (
    add_predictor_options,
    check_predictor_options,
    load_predictor,
    load_segmenter,
    segmenter_name,
)
from kpose.inference.segmentation import AutomaticSegmenter


def read(*arguments: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_predictor_options(parser)
    options = parser.parse_args(list(map(str, arguments)))
    check_predictor_options(parser, options)
    return options


@pytest.fixture
def own(checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the checkpoint of a head from a module of one's own."""
    code = "from kpose.heads import QuaternionHead\nclass OwnHead(QuaternionHead):\n    pass\n"
    (tmp_path / "heads_of_options.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    contents = torch.load(checkpoints["quaternion"], weights_only=True)
    contents["recipe"]["head"] = {"factory": "heads_of_options.OwnHead"}
    torch.save(contents, tmp_path / "own.ckpt")
    return tmp_path / "own.ckpt"


def test_classes_of_ones_own_are_loaded_where_they_are_trusted(own: Path) -> None:
    with pytest.raises(ValueError, match="--trust"):
        load_predictor(read("--checkpoint", own), None)
    predictor = load_predictor(read("--checkpoint", own, "--trust", "heads_of_options", "--image-size", "48"), None)
    assert type(predictor.network.head).__name__ == "OwnHead"
    assert predictor.image_size == 48
    assert predictor.segmenter is None


def test_the_best_of_this_machine_looks_unless_a_model_is_named(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    options = read("--checkpoint", checkpoints["keypoint"])
    assert isinstance(load_segmenter(options), AutomaticSegmenter)
    assert segmenter_name(options) is None
    assert segmenter_name(read("--checkpoint", tmp_path, "--segmenter", "a/b")) == "a/b"
    assert isinstance(load_predictor(options, load_segmenter(options)), Predictor)
    with pytest.raises((OSError, ValueError)):
        load_segmenter(read("--checkpoint", checkpoints["keypoint"], "--segmenter", tmp_path))


def test_a_label_needs_a_segmenter(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        read("--checkpoint", tmp_path, "--label", "duck")
    assert caught.value.code == 2
