"""What predicts, finds and follows, as the commands share it."""

from pathlib import Path

import pytest
import torch

from kpose.cli.networks import Finder, Networks, Targets
from kpose.cli.parser import ArgumentError
from kpose.inference.segmentation import MaskSegmenter
from kpose.video import OverlapTracker


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
        Networks(own).load_predictor(find=False)
    predictor = Networks(own, trust=["heads_of_options"], image_size=96).load_predictor(find=False)
    assert type(predictor.network.head).__name__ == "OwnHead"
    assert predictor.image_size == 96
    assert predictor.segmenter is None


def test_the_segmenter_of_birds_looks_unless_a_model_is_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    assert isinstance(Networks(checkpoints["keypoint"]).load_predictor(find=True).segmenter, MaskSegmenter)
    with pytest.raises((OSError, ValueError)):
        Networks(checkpoints["keypoint"], segmenter=str(tmp_path)).load_predictor(find=True)


def test_without_a_checkpoint_the_network_of_kpose_is_taken() -> None:
    predictor = Networks().load_predictor(find=True)
    assert "photographs of birds (CUB-200-2011, cameras without pose labels)" in str(predictor.network)
    assert isinstance(predictor.segmenter, MaskSegmenter)
    assert {path.name for path in Networks().checkpoint_files} >= {"model.safetensors", "segmenter.safetensors"}


def test_a_finder_takes_the_model_that_is_named(tmp_path: Path) -> None:
    assert Finder().load_segmenter() is None
    with pytest.raises((OSError, ValueError)):
        Finder(segmenter=str(tmp_path)).load_segmenter()
    with pytest.raises(ValueError, match="give both"):
        Finder(label="duck")


def test_networks_that_come_with_kpose_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Networks(Path("bird")).source == Networks().source
    for other in (Path("somewhere/bird"), Path("robin"), Path("..")):
        assert Networks(other).source == other
    Path("bird").mkdir()
    assert Networks(Path("bird")).source == Path("bird")


def test_wrong_options_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give both"):
        Networks(tmp_path, label="duck")
    with pytest.raises(ValueError, match="must be from 1 to"):
        Networks(tmp_path, image_size=0)
    with pytest.raises(ArgumentError, match="a device of this machine"):
        Networks(checkpoints["keypoint"], device="gpu").load_predictor(find=False)


def test_the_files_of_a_checkpoint_are_those_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert Networks(tmp_path).checkpoint_files == [tmp_path / "a", tmp_path / "b"]
    assert Networks(tmp_path / "a").checkpoint_files == [tmp_path / "a"]
    assert Networks(tmp_path / "c").checkpoint_files == []


def test_boxes_are_followed_from_the_first_frame_on(tmp_path: Path) -> None:
    boxes = [(1.0, 2.0, 3.0, 4.0), (5.0, 6.0, 7.0, 8.0)]
    segmenter = Networks().load_predictor(find=True).segmenter
    tracker = Targets(box=boxes).load_tracker(Networks(tmp_path), segmenter)
    assert isinstance(tracker, OverlapTracker)
    assert tracker.targets == {1: boxes[0], 2: boxes[1]}
    assert tracker.segmenter is segmenter
    with pytest.raises(ValueError, match="nothing here knows their category"):
        Targets(box=boxes).load_tracker(Networks(tmp_path), None)
    assert Targets(box=boxes).looks
    assert not Targets(masks=tmp_path).looks
    assert not Targets(box=boxes, lwl="").looks
    with pytest.raises(ValueError, match="exclude each other"):
        Targets(box=boxes, masks=tmp_path)
    with pytest.raises(ValueError, match="need a --box"):
        Targets(lwl="")
