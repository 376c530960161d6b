"""What ``kpose predict`` skips, replaces and keeps, without a network."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cli.conftest import picture
from PIL import Image

from kpose.cli.results import PhotoResult, check_replaced, is_marked, photo_results, write_marked_picture
from kpose.inference import Prediction
from kpose.visualization import turntable

FILES = ["robin.glb", "robin.html", "robin.json", "robin_overlay.png"]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "robin.png"
    picture().save(path)
    return path


@pytest.fixture
def result(photo: Path, tmp_path: Path) -> PhotoResult:
    (tmp_path / "out").mkdir()
    return PhotoResult(photo, tmp_path / "out", "robin", "made")


def written(result: PhotoResult) -> list[str]:
    return sorted(path.name for path in result.folder.rglob("*") if path.is_file())


def refusal(result: PhotoResult, *inputs: Path) -> str:
    with pytest.raises((FileExistsError, ValueError)) as caught:
        result.check(inputs, overwrite=False)
    return str(caught.value)


def test_a_result_is_done_for_what_it_was_made_from(result: PhotoResult, small_prediction: Prediction) -> None:
    assert not result.is_done()
    result.write(small_prediction)
    assert written(result) == FILES
    assert result.is_done()
    assert not result._replace(made_from="other").is_done()
    result.files[0].unlink()
    assert not result.is_done()
    result.check([], overwrite=False)


@pytest.mark.parametrize("name", FILES)
def test_files_of_others_are_kept(name: str, result: PhotoResult, small_prediction: Prediction) -> None:
    path = next(path for path in (result.record, *result.files) if path.name == name)
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"kpose": "mine", "photo": "x", "camera": 1, "files": 3}')
    assert f"{name} exists" in refusal(result)
    result.check([], overwrite=True)
    result.write(small_prediction)
    assert result.is_done()


@pytest.mark.parametrize("name", FILES)
def test_a_change_of_a_result_is_kept(name: str, result: PhotoResult, small_prediction: Prediction) -> None:
    result.write(small_prediction)
    path = next(path for path in (result.record, *result.files) if path.name == name)
    if name == "robin.json":
        path.write_text(json.dumps({**json.loads(path.read_text()), "species": "robin"}))
    else:
        path.write_bytes(path.read_bytes() + b" ")
    assert f"{name} exists" in refusal(result._replace(made_from="other"))


def test_the_result_of_another_photo_is_kept(
    result: PhotoResult, small_prediction: Prediction, tmp_path: Path
) -> None:
    result.write(small_prediction)
    assert f"is the result of {result.photo}" in refusal(result._replace(photo=tmp_path / "other" / "robin.png"))


def test_an_input_is_never_replaced(result: PhotoResult, small_prediction: Prediction) -> None:
    overlay = result.files[1]
    picture().save(overlay)
    link = overlay.with_name("link.png")
    link.symlink_to(overlay)
    for name in (overlay, link):
        with pytest.raises(ValueError, match="would replace an input"):
            result.check([name], overwrite=True)


def test_a_turntable_comes_and_goes_with_the_option(
    result: PhotoResult, small_prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kpose.visualization.turntable", lambda mesh: turntable(mesh, 32, num_frames=3))
    turning = result._replace(turning=True)
    result.write(small_prediction)
    assert not turning.is_done()
    turning.write(small_prediction)
    with Image.open(turning.files[-1]) as animation:
        assert animation.n_frames == 3
    assert turning.is_done()
    assert result.is_done()  # nothing is missing
    result.write(small_prediction)
    assert written(result) == FILES  # it showed another result
    picture().save(turning.files[-1])
    assert "turntable.gif exists" in refusal(turning)
    result.check([], overwrite=False)


@pytest.mark.parametrize("step", ["kpose.cli.results.write_text", "kpose.cli.results.file_digest"])
def test_an_interrupted_write_leaves_what_can_be_taken_up(
    step: str, result: PhotoResult, small_prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for before in ([], FILES):
        with monkeypatch.context() as patch:
            patch.setattr(step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                result.write(small_prediction)
        assert written(result) == before
        assert not list(result.folder.glob(".*"))
        result.check([], overwrite=False)
        result.write(small_prediction)
        assert result.is_done()


def test_an_interruption_between_record_and_files_is_taken_up(
    result: PhotoResult, small_prediction: Prediction, monkeypatch: pytest.MonkeyPatch
) -> None:
    result.write(small_prediction)
    move = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if target.name == "robin_overlay.png":
            raise KeyboardInterrupt
        return move(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", interrupted)
        with pytest.raises(KeyboardInterrupt):
            result._replace(made_from="other").write(small_prediction)
    assert written(result) == ["robin.glb", "robin.json"]
    assert not result._replace(made_from="other").is_done()
    result.check([], overwrite=False)


def test_a_pose_that_is_not_finite_leaves_nothing(result: PhotoResult, small_prediction: Prediction) -> None:
    camera = small_prediction.camera._replace(scale=torch.tensor(float("nan")))
    with pytest.raises(ValueError, match="not finite"):
        result.write(replace(small_prediction, camera=camera))
    assert written(result) == []


def names(photos: list[Path], folder: Path) -> list[str]:
    return [result.name for result in photo_results(photos, folder, {})]


def test_names_are_safe_and_differ(tmp_path: Path) -> None:
    photos = [
        "x.jpg",
        "x-2.jpg",
        "x.png",
        ".hidden.jpg",
        "a b?*.jpg",
        "é.jpg",
        f"{'日' * 200}.jpg",
        "..jpg",
        "-n.jpg",
    ]
    found = names([Path("a", name) for name in photos] + [Path("b/X.jpg"), Path("index.png")], tmp_path)
    assert len({name.casefold() for name in found}) == len(found)
    assert all(len(name.encode()) < 240 and "/" not in name and name[0] not in ".-" for name in found)
    assert found[:5] == ["x", "x-2", "x-3", "hidden", "a_b__"]


def test_a_photo_keeps_its_name_when_others_come(
    result: PhotoResult, small_prediction: Prediction, tmp_path: Path
) -> None:
    result.write(small_prediction)
    other = tmp_path / "robin.jpeg"
    assert names([other, result.photo], result.folder) == ["robin-2", "robin"]
    assert names([other], result.folder) == ["robin"]  # and is refused then


def test_results_depend_on_contents_and_options(photo: Path, tmp_path: Path) -> None:
    [first] = photo_results([photo], tmp_path / "out", {"image_size": 64})
    assert photo_results([photo], tmp_path / "out", {"image_size": 64}) == [first]
    [other] = photo_results([photo], tmp_path / "out", {"image_size": 32})
    picture(seed=5).save(photo)
    [changed] = photo_results([photo], tmp_path / "out", {"image_size": 64})
    assert len({result.made_from for result in (first, other, changed)}) == 3


def test_marked_pictures_and_pages_are_known(tmp_path: Path) -> None:
    write_marked_picture(tmp_path / "sheet.png", picture())
    picture().save(tmp_path / "mine.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    (tmp_path / "index.html").write_text("<!doctype html>\n<!-- kpose -->")
    (tmp_path / "mine.html").write_text("kpose")
    names = ("sheet.png", "mine.png", "broken.png", "index.html", "mine.html", "none.png")
    assert [name for name in names if is_marked(tmp_path / name)] == ["sheet.png", "index.html"]
    with pytest.raises(FileExistsError, match=r"mine\.png exists"):
        check_replaced(tmp_path / "mine.png", [], allowed=is_marked(tmp_path / "mine.png"))
