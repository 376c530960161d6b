import unicodedata

import pytest

from kpose.data.coco_photos import CocoPhotos

NFD, NFC = (unicodedata.normalize(form, "Möwe") for form in ("NFD", "NFC"))


def put(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.mark.parametrize(
    ("photo", "file", "name"),
    [
        ("images/a.jpg", "c.json", "a.jpg"),
        ("a.jpg", "c.json", "./a.jpg"),
        ("images/a.jpg", "result.json", "images/a.jpg"),
        ("images/wild/a.jpg", "c.json", "wild/a.jpg"),
        ("train/a.jpg", "train/_annotations.coco.json", "a.jpg"),
        ("train2017/a.jpg", "annotations/instances_train2017.json", "a.jpg"),
        ("images/train2017/a.jpg", "annotations/instances_train2017.json", "a.jpg"),
        ("images/default/a.jpg", "annotations/instances_default.json", "a.jpg"),
        ("images/val/a.jpg", "val.json", "a.jpg"),
        ("birds/images/a.jpg", "birds/annotations/c.json", "a.jpg"),
        ("data/a.jpg", "labels.json", "a.jpg"),
        (f"images/{NFD}.jpg", "c.json", f"{NFC}.jpg"),
        (f"images/{NFC}.jpg", "c.json", f"{NFD}.jpg"),
        ("images/a.JPG", "c.json", "a.jpg"),
        ("Images/Wild/A.jpg", "c.json", "images/wild/a.jpg"),
        ("images/a.jpg", "c.json", "C:/birds/photos/a.jpg"),
        ("images/a.jpg", "c.json", "/data/upload/1/a.jpg"),
    ],
)
def test_layouts_and_names_of_tools(tmp_path, photo, file, name):
    put(tmp_path, photo, file, "elsewhere/b.jpg", "masks/a.jpg")
    photos = CocoPhotos(tmp_path, tmp_path / file, [name])
    assert photos.find(name) == [tmp_path / photo]


def test_a_photo_is_named_by_its_place(tmp_path):
    photos = CocoPhotos(tmp_path, tmp_path / "c.json", [])
    names = ["images/wild/a.b.jpg", "train/a.jpg"]
    assert [photos.name(tmp_path / name) for name in names] == ["wild/a.b", "train/a"]
    assert photos.name(tmp_path.parent / "other" / "a.jpg") == "a"


def test_what_is_not_there_and_what_is_not_clear(tmp_path):
    put(tmp_path, "one/a.jpg", "two/a.jpg", "images/B.jpg", "images/b.JPG", "masks/c.png")
    names = ["a.jpg", "b.jpg", "c.png", "d.jpg"]
    photos = CocoPhotos(tmp_path, tmp_path / "c.json", names)
    assert [len(photos.find(name)) for name in names] == [2, 2, 0, 0]
    put(tmp_path, "images/a.jpg")
    assert photos.find("a.jpg") == [tmp_path / "images/a.jpg"]


def test_folders_that_only_some_names_share_stay(tmp_path):
    put(tmp_path, "images/a.jpg")
    names = ["lost/wild/a.jpg", "lost/tame/a.jpg"]
    photos = CocoPhotos(tmp_path, tmp_path / "c.json", names)
    assert [photos.find(name) for name in names] == [[], []]


def test_the_split_of_a_file_tells_its_folder(tmp_path):
    put(tmp_path, "train/a.jpg", "val/a.jpg", "c.json")
    found = [CocoPhotos(tmp_path, tmp_path / "c.json", [], split).find("a.jpg") for split in ("train", "val")]
    assert found == [[tmp_path / "train/a.jpg"], [tmp_path / "val/a.jpg"]]


def test_links_in_a_circle_end(tmp_path):
    put(tmp_path, "photos/a.jpg")
    (tmp_path / "photos/again").symlink_to(tmp_path)
    assert CocoPhotos(tmp_path, tmp_path / "c.json", []).find("A.jpg") == [tmp_path / "photos/a.jpg"]


def test_a_file_outside_of_the_root(tmp_path, monkeypatch):
    put(tmp_path, "photos/a.jpg", "labels/b.jpg")
    photos = CocoPhotos(tmp_path / "photos", tmp_path / "labels/c.json", [])
    assert photos.find("a.jpg") == [tmp_path / "photos/a.jpg"]
    assert photos.find("b.jpg") == [tmp_path / "labels/b.jpg"]
    monkeypatch.chdir(tmp_path)
    assert CocoPhotos(tmp_path, "photos" / (tmp_path / "c.json").relative_to(tmp_path), []).find("A.JPG")
