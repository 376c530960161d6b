from pathlib import Path

import pytest
import torch

from kpose.network import PoseNetwork


def refusal(path: Path, kind: type[Exception] = ValueError) -> str:
    with pytest.raises(kind) as error:
        PoseNetwork.from_checkpoint(path)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "There is no checkpoint" in refusal(tmp_path / "missing.ckpt", FileNotFoundError)
    assert "is a folder" in refusal(tmp_path)
    path = tmp_path / "x.ckpt"
    path.write_text("weights")
    assert "is damaged, cut short or no checkpoint" in refusal(path)
    path.write_bytes(b"")
    assert "is damaged, cut short or no checkpoint" in refusal(path)
    torch.save({"weight": torch.zeros(1)}, path)
    assert "no checkpoint of a training run" in refusal(path)
    torch.save(torch.nn.Linear(1, 1), path)
    assert "more than tensors and plain values" in refusal(path)
    torch.save({"state_dict": {}, "hyper_parameters": 1.0}, path)
    assert "is another, or of an older kpose" in refusal(path)
    torch.save({"state_dict": {"network.weight": "text"}, "recipe": {}}, path)
    assert "no checkpoint of a training run" in refusal(path)
