import pytest
import torch
from reconstruction.tables import table

from kpose.reconstruction.camera_files import read_cameras, write_cameras


@pytest.fixture
def tensors(tmp_path):
    table(3).save(tmp_path / "good.safetensors")
    return read_cameras(tmp_path / "good.safetensors")[1]


def refusal(folder, tensors, names=("a", "b", "c")):
    write_cameras(folder / "bad.safetensors", names, tensors)
    with pytest.raises(ValueError, match=r"bad\.safetensors") as caught:
        read_cameras(folder / "bad.safetensors")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_written_is_read(tensors, tmp_path):
    write_cameras(tmp_path / "again.safetensors", ["x", "y", "z"], tensors)
    names, again = read_cameras(tmp_path / "again.safetensors")
    assert names == ["x", "y", "z"]
    assert all(torch.equal(value, again[name]) for name, value in tensors.items())
    assert {path.name for path in tmp_path.iterdir()} == {"good.safetensors", "again.safetensors"}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"score": torch.zeros(3)}, "as scale of 3 images"),
        ({"scale": torch.zeros(3, 6, dtype=torch.long)}, r"int64 (3, 6) as scale"),
        ({"order": torch.zeros(3, 6)}, "float32 (3, 6) as order"),
        ({"order": torch.zeros(3, 6, dtype=torch.long)}, "an order that leaves cameras out"),
        ({"translation": torch.full((3, 6, 2), torch.nan)}, "not finite as translation"),
        ({"crop_scale": torch.zeros(2)}, "as crop_scale of 3 images"),
    ],
)
def test_tensors_that_do_not_belong_together_are_named(changed, fault, tensors, tmp_path):
    assert fault in refusal(tmp_path, {**tensors, **changed})


def test_each_row_has_a_name(tensors, tmp_path):
    assert "of 2 images" in refusal(tmp_path, tensors, names=("a", "b"))
    del tensors["order"]
    assert "format 2" in refusal(tmp_path, tensors)
