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


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"images": [], "annotations": [{"segmentation": [[0, 0, NaN, 0, 2, 2]]}]}', "NaN is no number of JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
    ids=["nan", "nested"],
)
def test_numbers_and_depths_that_json_does_not_have_are_refused(text, fault, tmp_path):
    path = tmp_path / "coco.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^read_coco needs json in COCO's form; .* {fault}"):
        read_coco(path)


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
    path = write(tmp_path / "a.json")
    (one, two, three), faults = read_coco(path, "car")
    crowds = "1 annotation left out: they are marked as crowds (iscrowd 1), and others are not"
    assert faults == [f"{path}: {crowds}"]
    assert [thing.file_name for thing in (one, two, three)] == ["a/one.jpg", "two.jpg", "two.jpg"]
    assert [thing.identity for thing in (one, two, three)] == ["", "#2", "#3"]
    assert one.mask().nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    # Columns come first: the last of 24 pixels is at the lower right.
    assert two.mask().nonzero().tolist() == [[3, 5]]
    with pytest.raises(ValueError, match="add up to the 24 pixels"):
        three.mask()
    [tree], _ = read_coco(write(tmp_path / "a.json"), "tree")
    assert (tree.file_name, tree.identity) == ("two.jpg", "")


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
        ([], "a polygon of three points"),
        ("0123", "a polygon of three points"),
        ([["0", "1", "2", "3", "4", "x"]], "as numbers"),
        ([[0, 0, 2, 0, 2, float("nan")]], "as numbers"),
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
    assert len(faults) == 4
    assert faults[1] == f"{path}: annotation 1 of image 5 is left out: no image has that id"


GOOD = [0, 0, 2, 0, 2, 2, 0, 2]


@pytest.mark.parametrize("stray", [[5, 5, 6, 6], [5.0, 5.0], [], [5, 5, 6, 6, 7, 7, 8]])
def test_stray_clicks_beside_a_polygon_are_passed_over_and_counted(tmp_path, stray):
    assert torch.equal(decode_segmentation([GOOD, stray], (4, 6)), decode_segmentation([GOOD], (4, 6)))
    note = {"id": 1, "image_id": 5, "category_id": 1, "segmentation": [GOOD, stray]}
    [found], faults = read_coco(write(tmp_path / "a.json", annotations=[note]))
    assert found.mask().sum() == 4
    assert "1 polygon of fewer than three points" in faults[0]


def test_a_polygon_without_a_list_around_it():
    assert torch.equal(decode_segmentation(GOOD, (4, 6)), decode_segmentation([GOOD], (4, 6)))


MASK = {"size": [4, 6], "counts": [4, 2, 18]}


@pytest.mark.parametrize(
    ("changes", "count", "reason"),
    [
        ({"segmentation": MASK, "iscrowd": 1, "attributes": {"occluded": False}}, 2, ""),  # as CVAT writes masks
        ({"segmentation": MASK, "iscrowd": 1}, 1, "marked as crowds"),
        ({"segmentation": [GOOD], "iscrowd": 1}, 1, "marked as crowds"),
        ({"segmentation": [], "bbox": [0, 0, 2, 2]}, 1, "no segmentation"),
        ({"segmentation": None}, 1, "no segmentation"),
        ({"segmentation": [GOOD], "category_id": 9}, 1, "do not list their category_id, 9"),
        ({"segmentation": [GOOD], "category_id": "1"}, 2, ""),
        ({"segmentation": [GOOD], "category_id": 1.0}, 2, ""),
        ({"segmentation": [GOOD], "image_id": "5"}, 2, ""),
        ({"segmentation": [GOOD], "image_id": 77}, 1, "no image has that id"),
    ],
)
def test_what_is_left_out_is_counted_by_reason(tmp_path, changes, count, reason):
    good = {"id": 1, "image_id": 6, "category_id": 1, "segmentation": [GOOD]}
    notes = [good, {"id": 2, "image_id": 5, "category_id": 1, **changes}]
    objects, faults = read_coco(write(tmp_path / "a.json", annotations=notes))
    assert len(objects) == count
    faults = [fault for fault in faults if "without annotation" not in fault]
    assert len(faults) == bool(reason)
    assert all(reason in fault and fault.startswith(f"{tmp_path / 'a.json'}: ") for fault in faults)


def test_masks_marked_as_crowds_are_objects_where_nothing_else_is(tmp_path):
    note = {"id": 1, "image_id": 5, "category_id": 1, "segmentation": MASK, "iscrowd": 1}
    flock = {"id": 2, "image_id": 6, "category_id": 1, "segmentation": [GOOD], "iscrowd": 1}
    [found], [fault] = read_coco(write(tmp_path / "a.json", annotations=[note, flock]))
    assert found.mask().sum() == 2
    assert "1 annotation left out" in fault


def test_a_category_that_nothing_is_of_needs_no_choice(tmp_path):
    group = {"id": 0, "name": "birds-x3Yz", "supercategory": "none"}
    bird = {"id": 1, "name": "bird", "supercategory": "birds-x3Yz"}
    notes = [{"id": 1, "image_id": k, "category_id": 1, "segmentation": [GOOD]} for k in (5, 6)]
    objects, faults = read_coco(write(tmp_path / "a.json", categories=[group, bird], annotations=notes))
    assert (len(objects), faults) == (2, [])


def test_images_of_one_id_and_images_without_annotation_are_told(tmp_path):
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 4, "width": 6} for number in (5, "5", 6, 7)]
    notes = [{"id": k, "image_id": k, "category_id": 1, "segmentation": [GOOD]} for k in (5, 6)]
    [found], faults = read_coco(write(tmp_path / "a.json", images=images, annotations=notes))
    assert found.file_name == "6.jpg"
    assert [fault.partition(": ")[2] for fault in faults] == [
        "annotation 5 of image 5 is left out: two images have that id",
        "1 image without annotation",
    ]
