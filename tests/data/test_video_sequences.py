"""Readers of DAVIS and YouTube-VOS, on small files in their layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kpose.data import VideoSequence, read_davis, read_identities, read_youtube_vos

SIZE = (16, 12)
Identities = dict[int, tuple[int, int, int, int]]


def write_frame(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", SIZE, (30, 60, 90)).save(path)


def write_masks(path: Path, boxes: Identities, *, gray: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(SIZE[::-1], dtype=np.uint8)
    for identity, (left, top, right, bottom) in boxes.items():
        values[top:bottom, left:right] = identity
    picture = Image.fromarray(values)
    if not gray:
        picture = picture.convert("P")
        picture.putdata(values.flatten().tolist())
        picture.putpalette([value for k in range(256) for value in (k, 255 - k, k)])
    picture.save(path)


def write_davis(root: Path, name: str, boxes: Identities, *, count: int = 3, gray: bool = False) -> None:
    for frame in range(count):
        write_frame(root / "JPEGImages" / "480p" / name / f"{frame:05}.jpg")
        write_masks(root / "Annotations" / "480p" / name / f"{frame:05}.png", boxes, gray=gray)


def test_davis_2016(tmp_path: Path) -> None:
    write_davis(tmp_path, "blackswan", {255: (2, 3, 8, 9)}, gray=True)
    write_davis(tmp_path, "camel", {255: (2, 3, 8, 9)}, gray=True)
    write_davis(tmp_path, "mallard-fly", {255: (0, 0, 4, 4)}, gray=True)
    lists = tmp_path / "ImageSets" / "480p"
    lists.mkdir(parents=True)
    lines = [f"/JPEGImages/480p/{n}/00000.jpg /Annotations/480p/{n}/00000.png" for n in ("blackswan", "camel")]
    (lists / "val.txt").write_text("\n".join(lines))
    assert [sequence.name for sequence in read_davis(tmp_path)] == ["blackswan", "mallard-fly"]
    assert [sequence.name for sequence in read_davis(tmp_path, categories=None, split="val")] == [
        "blackswan",
        "camel",
    ]
    [swan] = read_davis(tmp_path, split="val")
    assert len(swan) == 3
    assert swan.objects == {1: "bird"}
    assert [path.name for path in swan.frames] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    mask = swan.masks(1)[1]
    assert mask.shape == (12, 16)
    assert mask[3:9, 2:8].all()
    assert mask.sum() == 36


def test_masks_of_davis_may_be_soft_or_colored(tmp_path: Path) -> None:
    write_davis(tmp_path, "blackswan", {1: (2, 3, 8, 9)})
    folder = tmp_path / "Annotations" / "480p" / "blackswan"
    hard = Image.new("L", SIZE)
    hard.paste(255, (2, 3, 8, 9))
    hard.resize((32, 24)).resize(SIZE, Image.Resampling.BILINEAR).save(folder / "00000.png")
    (folder / "00001.png").unlink()
    hard.save(folder / "00001.jpg")
    red = Image.new("RGB", SIZE)
    red.paste((128, 0, 0), (2, 3, 8, 9))
    red.save(folder / "00002.png")
    [swan] = read_davis(tmp_path)
    assert swan.objects == {1: "bird"}
    for frame in range(3):
        assert abs(int(swan.masks(frame)[1].sum()) - 36) < 10
        assert swan.masks(frame)[1][4:8, 3:7].all()


def test_davis_2017(tmp_path: Path) -> None:
    boxes: Identities = {1: (0, 0, 4, 4), 2: (6, 0, 9, 4), 3: (10, 0, 12, 2), 255: (0, 10, 16, 12)}
    write_davis(tmp_path, "dog-gooses", boxes)
    write_davis(tmp_path, "flamingo", {1: (0, 0, 4, 4)})
    lists = tmp_path / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("flamingo\ndog-gooses\n")
    assert [sequence.name for sequence in read_davis(tmp_path, split="train")] == ["flamingo"]
    (tmp_path / "davis_semantics.json").write_text(
        json.dumps({"dog-gooses": {"1": "dog", "2": "bird", "3": "bird"}})
    )
    geese, flamingo = read_davis(tmp_path, split="train")
    assert geese.objects == {2: "bird", 3: "bird"}
    assert flamingo.objects == {1: "bird"}
    masks = geese.masks(0)
    assert {identity: int(mask.sum()) for identity, mask in masks.items()} == {2: 12, 3: 4}
    [everything, _] = read_davis(tmp_path, categories=None)
    assert set(everything.objects) == {1, 2, 3}  # void is nobody


def test_objects_are_those_of_the_first_annotated_frame(tmp_path: Path) -> None:
    write_davis(tmp_path, "flamingo", {1: (0, 0, 4, 4)})
    folder = tmp_path / "Annotations" / "480p" / "flamingo"
    (folder / "00000.png").unlink()
    write_masks(folder / "00002.png", {7: (0, 0, 4, 4)})
    [flamingo] = read_davis(tmp_path)
    assert flamingo.annotations[0] is None
    assert flamingo.masks(0) == {}
    assert flamingo.objects == {1: "bird"}


def write_youtube_vos(root: Path, videos: dict[str, dict[str, str]], split: str = "train") -> None:
    content = {"videos": {}}
    for name, objects in videos.items():
        table = {key: {"category": value, "frames": ["00000"]} for key, value in objects.items()}
        content["videos"][name] = {"objects": table}
        for frame in range(0, 20, 5):
            write_frame(root / split / "JPEGImages" / name / f"{frame:05}.jpg")
            visible = {int(key): (4 * int(key), 0, 4 * int(key) + 3, 4) for key in objects if frame or key == "1"}
            write_masks(root / split / "Annotations" / name / f"{frame:05}.png", visible)
    (root / split / "meta.json").write_text(json.dumps(content))


def test_youtube_vos_keeps_the_birds(tmp_path: Path) -> None:
    videos = {
        "0a": {"1": "person", "2": "parrot"},
        "0b": {"1": "cat"},
        "0c": {"1": "penguin", "2": "duck", "3": "owl"},
    }
    write_youtube_vos(tmp_path, videos)
    parrot, many = read_youtube_vos(tmp_path)
    assert parrot.objects == {2: "parrot"}
    assert set(parrot.masks(1)) == {2}
    assert parrot.masks(0) == {}
    assert set(many.masks(1)) == {1, 2, 3}
    assert set(many.masks(0)) == {1}
    assert [video.name for video in read_youtube_vos(tmp_path, categories=["cat"])] == ["0b"]
    assert len(read_youtube_vos(tmp_path, categories=None)) == 3
    extra = tmp_path / "train" / "JPEGImages" / "0a" / "00001.jpg"
    write_frame(extra)  # with the files of all frames
    [parrot, _] = read_youtube_vos(tmp_path)
    assert parrot.frames[1] == extra
    assert parrot.annotations[1] is None


def test_a_split_without_categories_is_named(tmp_path: Path) -> None:
    write_youtube_vos(tmp_path, {"0a": {"1": ""}}, split="valid")
    with pytest.raises(ValueError, match="training split"):
        read_youtube_vos(tmp_path, split="valid")
    assert len(read_youtube_vos(tmp_path, split="valid", categories=None)) == 1


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="JPEGImages"):
        read_davis(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"meta\.json"):
        read_youtube_vos(tmp_path)
    write_davis(tmp_path, "flamingo", {1: (0, 0, 4, 4)})
    with pytest.raises(FileNotFoundError, match=r"list val\.txt"):
        read_davis(tmp_path, split="val")
    lists = tmp_path / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("blackswan\n")
    with pytest.raises(FileNotFoundError, match="blackswan"):
        read_davis(tmp_path, split="val")
    write_youtube_vos(tmp_path, {"0a": {"1": "owl"}})
    for path in (tmp_path / "train" / "JPEGImages" / "0a").iterdir():
        path.unlink()
    (tmp_path / "train" / "JPEGImages" / "0a").rmdir()
    with pytest.raises(FileNotFoundError, match="0a"):
        read_youtube_vos(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"videos": 3}', '{"videos": {"a": {"objects": {"x": {}}}}}'])
def test_a_damaged_list_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=r"meta\.json does not hold"):
        read_youtube_vos(tmp_path)


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "..", "", "a\0b", "long" * 100])
def test_names_of_videos_lead_nowhere_else(name: str, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "meta.json").write_text(
        json.dumps({"videos": {name: {"objects": {"1": {"category": "owl"}}}}})
    )
    with pytest.raises(ValueError, match="as the name of a video"):
        read_youtube_vos(tmp_path)


def test_damaged_masks_and_categories_are_one_line(tmp_path: Path) -> None:
    write_davis(tmp_path, "flamingo", {1: (0, 0, 4, 4)})
    path = tmp_path / "Annotations" / "480p" / "flamingo" / "00001.png"
    path.write_bytes(path.read_bytes()[:60])
    [flamingo] = read_davis(tmp_path)
    with pytest.raises(ValueError, match=r"00001\.png is no mask that can be read"):
        flamingo.masks(1)
    (tmp_path / "davis_semantics.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"davis_semantics\.json"):
        read_davis(tmp_path)


def test_real_sequences(davis_root: Path) -> None:
    sequences = {sequence.name: sequence for sequence in read_davis(davis_root)}
    assert isinstance(sequences["blackswan"], VideoSequence)
    assert len(sequences["blackswan"]) == 50
    assert sequences["blackswan"].masks(0)[1].float().mean() > 0.01


def test_masks_of_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("P", (9, 9)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # twice as many are taken for an attack on the memory
    with pytest.raises(ValueError, match=r"large\.png is too large .*exceeds limit"):
        read_identities(tmp_path / "large.png")
