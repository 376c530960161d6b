import json
from itertools import pairwise

import pytest
import torch

from kpose.data.coco import decode_segmentation, read_coco


def write(path, **changes):
    content = {
        "images": [
            {"id": 5, "file_name": "a/one.jpg", "height": 4, "width": 6},
            {"id": 6, "file_name": "two.jpg", "height": 4, "width": 6},
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "tree"}],
        "annotations": [
            {"id": 1, "image_id": 5, "category_id": 1, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
            {"id": 2, "image_id": 6, "category_id": 1, "segmentation": {"size": [4, 6], "counts": [23, 1]}},
            {"id": 3, "image_id": 6, "category_id": 1, "segmentation": {"size": [4, 6], "counts": "k01"}},
            {"id": 4, "image_id": 6, "category_id": 1, "iscrowd": 1, "segmentation": {"size": [4, 6]}},
            {"id": 5, "image_id": 6, "category_id": 2, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]},
        ],
    }
    path.write_text(json.dumps({**content, **changes}))
    return path


def encode(runs):
    """Write run lengths as the format says, the slow way."""
    text = ""
    for place, run in enumerate(runs):
        value = run - runs[place - 2] if place > 2 else run
        while True:
            group, value = value & 31, value >> 5
            last = value == (-1 if group & 16 else 0)
            text += chr(48 + group + 32 * (not last))
            if last:
                break
    return text


def test_compressed_run_lengths_of_random_masks():
    generator = torch.Generator().manual_seed(0)
    for size in ((3, 5), (40, 31), (200, 100)):
        mask = torch.nn.functional.interpolate(
            torch.rand(1, 1, 5, 4, generator=generator), size, mode="bilinear", align_corners=False
        )[0, 0].gt(0.5)
        flat = mask.T.flatten()
        starts = [0, *((flat[1:] != flat[:-1]).nonzero().flatten() + 1).tolist(), len(flat)]
        runs = [after - before for before, after in pairwise(starts)]
        runs = [0, *runs] if flat[0] else runs
        for counts in (runs, encode(runs)):
            assert torch.equal(decode_segmentation({"size": list(size), "counts": counts}, size), mask)


@pytest.mark.parametrize(
    ("polygon", "rows"),
    [
        ([1, 1, 3, 1, 3, 3, 1, 3], ["......", ".XX...", ".XX...", "......"]),
        ([1.4, 1.4, 3.4, 1.4, 3.4, 3.4, 1.4, 3.4], ["......", ".XX...", ".XX...", "......"]),
        ([1.6, 1.6, 3.6, 1.6, 3.6, 3.6, 1.6, 3.6], ["......", "......", "..XX..", "..XX.."]),
        ([-2, -2, 1, -2, 1, 9, -2, 9], ["X.....", "X.....", "X.....", "X....."]),
        ([7, 1, 9, 1, 9, 3], ["......"] * 4),
        ([2, 0, 6, 4, 2, 4], ["..X...", "..XX..", "..XXX.", "..XXXX"]),  # the slope passes through centers
        ([2, -0.1, 6, 3.9, 6, 4, 2, 4], ["..X...", "..XX..", "..XXX.", "..XXXX"]),
        ([0, 0, 6, 0, 6, 4, 0, 4, 0, 3, 5, 3, 5, 1, 0, 1], ["XXXXXX", ".....X", ".....X", "XXXXXX"]),
    ],
)
def test_polygons_by_hand(polygon, rows):
    expected = torch.tensor([[cell == "X" for cell in row] for row in rows])
    assert torch.equal(decode_segmentation([polygon], (4, 6)), expected)


def test_polygons_of_one_object_are_united():
    mask = decode_segmentation([[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 4, 1, 4, 3, 1, 3]], (4, 6))
    assert mask.sum() == 4 + 6 - 1


def test_objects_of_a_file(tmp_path):
    (one, two, three), faults = read_coco(write(tmp_path / "a.json"), "car")
    assert faults == []
    assert [thing.name for thing in (one, two, three)] == ["a/one", "two#2", "two#3"]
    assert one.file_name == "a/one.jpg"
    assert one.mask().nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    # Columns come first: the last of 24 pixels is at the lower right.
    assert two.mask().nonzero().tolist() == [[3, 5]]
    with pytest.raises(ValueError, match="add up to the 24 pixels"):
        three.mask()
    [tree], _ = read_coco(write(tmp_path / "a.json"), "tree")
    assert tree.name == "two"


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[0, 0, 1, 1]], "three points"),
        ([[0, 0, 1, 1, 2]], "three points"),
        ({"size": [4, 4], "counts": [24]}, "image's size"),
        ({"size": [4, 6], "counts": [25, -1]}, "whole numbers"),
        ({"size": [4, 6], "counts": [2**40]}, "whole numbers"),
        ({"size": [4, 6], "counts": [20, 3]}, "add up"),
        ({"size": [4, 6], "counts": "23"}, "add up"),
        ({"size": [4, 6], "counts": ""}, "whole numbers"),
        ({"size": [4, 6], "counts": "P"}, "whole numbers"),
        ({"size": [4, 6], "counts": "g01P"}, "whole numbers"),
        ({"size": [4, 6], "counts": "PPPPPPPPPPPP0"}, "whole numbers"),
        ({"size": [4, 6], "counts": "é"}, "whole numbers"),
        ({"size": [4, 6]}, "whole numbers"),
        ([], "got neither"),
        ("0123", "got neither"),
        ([[0, 0, 1e300, 0, 1, 1]], "outline"),
        ([[-5e6, 0, -5e6, 0, -5e6, 1]], "outline"),
    ],
)
def test_damaged_segmentations(segmentation, message):
    with pytest.raises(ValueError, match=message):
        decode_segmentation(segmentation, (4, 6))


def test_files_of_another_kind(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_coco(path)
    with pytest.raises(ValueError, match=r"has \['car', 'tree'\]"):
        read_coco(write(path))
    with pytest.raises(ValueError, match="got 'bus'"):
        read_coco(write(path), "bus")
    for text in ("{", "[]", '{"images": []}'):
        path.write_text(text)
        with pytest.raises(ValueError, match="COCO's form"):
            read_coco(path)
    objects, faults = read_coco(write(path, images=[]), "car")
    assert objects == []
    assert len(faults) == 3
    assert "is not in COCO's form (KeyError 5)" in faults[0]
