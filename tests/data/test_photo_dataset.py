import pickle

import pytest
import torch
from PIL import Image

from kpose.data.photo_dataset import CropCache, load_crop


def test_outside_the_photo_is_filled(tmp_path):
    Image.new("RGB", (10, 8), (10, 20, 30)).save(tmp_path / "photo.png")
    Image.new("L", (10, 8), 255).save(tmp_path / "mask.png")
    crop = load_crop(tmp_path / "photo.png", tmp_path / "mask.png", (-10.0, -4.0, 10.0, 16.0), 20, (255, 128, 0))
    assert crop.shape == (4, 20, 20)
    assert crop[:, 0, 0].tolist() == [255, 128, 0, 0]
    assert crop[:, 8, 15].tolist() == [10, 20, 30, 255]
    assert (crop[3] > 0).sum() == 80


def test_a_mask_of_another_size_is_refused(tmp_path):
    Image.new("RGB", (10, 8)).save(tmp_path / "photo.png")
    Image.new("L", (8, 10)).save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="mask of the photo's size"):
        load_crop(tmp_path / "photo.png", tmp_path / "mask.png", (0.0, 0.0, 4.0, 4.0), 4, (0, 0, 0))


@pytest.mark.parametrize("content", [b"", b"no picture", "short"])
def test_a_file_that_cannot_be_decoded_is_named(tmp_path, content):
    Image.effect_noise((64, 64), 50).save(tmp_path / "photo.png")
    whole = (tmp_path / "photo.png").read_bytes()
    (tmp_path / "mask.png").write_bytes(whole[:500] if content == "short" else content)
    with pytest.raises(ValueError, match=r"mask.png is no mask that can be read"):
        load_crop(tmp_path / "photo.png", tmp_path / "mask.png", (0.0, 0.0, 4.0, 4.0), 4, (0, 0, 0))


def crop_of(value: int) -> torch.Tensor:
    return torch.full((4, 3, 3), value, dtype=torch.uint8)


@pytest.mark.parametrize("on_disk", [False, True])
def test_cache_loads_once_and_gives_copies(tmp_path, on_disk):
    cache = CropCache(3, 3, folder=tmp_path / "new" if on_disk else None)
    calls = []
    first = cache.get(1, lambda: calls.append(1) or crop_of(7))
    first.zero_()
    assert cache.get(1, lambda: calls.append(2) or crop_of(9)).unique().tolist() == [7]
    assert cache.get(2, lambda: crop_of(5)).unique().tolist() == [5]
    assert calls == [1]


def test_cache_on_disk_is_found_again_by_its_key(tmp_path):
    CropCache(3, 3, folder=tmp_path, key="a").get(0, lambda: crop_of(7))
    again = CropCache(3, 3, folder=tmp_path, key="a")
    assert again.get(0, lambda: crop_of(9)).unique().tolist() == [7]
    assert CropCache(3, 3, folder=tmp_path, key="b").get(0, lambda: crop_of(9)).unique().tolist() == [9]
    assert pickle.loads(pickle.dumps(again)).get(0, lambda: crop_of(9)).unique().tolist() == [7]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".bin", ".bin"]


def test_cache_in_memory_starts_empty_in_a_copy():
    cache = CropCache(3, 3)
    cache.get(0, lambda: crop_of(7))
    assert pickle.loads(pickle.dumps(cache)).get(0, lambda: crop_of(9)).unique().tolist() == [9]


def test_empty_cache_is_refused():
    with pytest.raises(ValueError, match="at least one crop"):
        CropCache(0, 3)
