import os

import pytest
from PIL import Image

from kpose.data.folder_files import FolderEntry, list_masked


@pytest.fixture
def entry(tmp_path):
    """Return a dark photo of 8 × 6 pixels whose mask covers a box."""
    mask = Image.new("L", (8, 6))
    mask.paste(255, (2, 1, 7, 4))
    for folder, picture in (("images", Image.new("RGB", (8, 6))), ("masks", mask)):
        (tmp_path / folder / "a").mkdir(parents=True)
        picture.save(tmp_path / folder / "a" / "one.png")
    [entry], faults = list_masked(tmp_path)
    assert not faults
    return entry


def test_a_photo_is_named_by_its_path_and_checked_with_its_mask(entry):
    assert entry.name == "a/one"
    assert entry.check() == ((2, 1, 7, 4), "")
    photo, mask = entry.open()
    assert photo.size == mask.size == (8, 6)
    assert FolderEntry(entry.name, entry.file, None).check() == (None, "it has no mask")


def test_a_stamp_changes_with_either_file(entry):
    stamps = [entry.stamp()]
    for path in (entry.file, entry.mask):
        os.utime(path, ns=(0, 1_000_000_000))
        stamps.append(entry.stamp())
    assert len(set(stamps)) == 3
    assert entry.stamp() == stamps[-1]


def test_a_second_image_of_one_name_is_a_fault(entry, tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "images" / "a" / "one.bmp")
    entries, faults = list_masked(tmp_path)
    assert [found.file.name for found in entries] == ["one.bmp"]
    assert faults == [f"{entry.file}: it has the name of one.bmp, which is used"]
