import json

import pytest

from kpose.files import fingerprint, write_text
from kpose.pipeline.folder import UNSCORED, ResultFolder


def writer(text, log):
    def work(folder):
        log.append(text)
        (folder / "result.txt").write_text(text)

    return work


def test_a_step_is_done_once_for_the_same_settings(tmp_path):
    results, log = ResultFolder(tmp_path / "new" / "out"), []
    first = results.step("cameras", {"seed": 0}, writer("first", log))
    again = results.step("cameras", {"seed": 0}, writer("again", log))
    assert again == first
    assert log == ["first"]
    assert json.loads((first / "done.json").read_text()) == {"seed": 0}


def test_changed_settings_leave_the_old_result(tmp_path):
    results, log = ResultFolder(tmp_path), []
    first = results.step("cameras", {"seed": 0}, writer("zero", log))
    second = results.step("cameras", {"seed": 1}, writer("one", log))
    assert first != second
    assert (first / "result.txt").read_text() == "zero"
    assert (second / "result.txt").read_text() == "one"


def test_an_interrupted_step_is_done_again_in_its_folder(tmp_path):
    results, log = ResultFolder(tmp_path), []

    def fail(folder):
        (folder / "partial.txt").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        results.step("cameras", {}, fail)
    folder = results.step("cameras", {}, writer("whole", log))
    assert (folder / "partial.txt").read_text() == "half"
    assert log == ["whole"]


def test_fingerprints_depend_on_values_and_not_on_order():
    assert fingerprint({"a": 1, "b": {"c": 2, "d": 3}}) == fingerprint({"b": {"d": 3, "c": 2}, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_a_file_is_replaced_whole(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_text(path, "old")

    def full_disk(self, text, **settings):
        self.open("w").close()
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "write_text", full_disk)
        with pytest.raises(OSError, match="no space"):
            write_text(path, "new")
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("links", [True, False])
def test_a_result_is_published_under_its_name(links, tmp_path, monkeypatch):
    def refuse(source, target):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr("os.link", refuse)
    results = ResultFolder(tmp_path)
    for text in ("old", "new", "new"):
        folder = results.step("heads/a", {"text": text}, writer(text, []))
        results.publish(folder / "result.txt", "a.txt")
        assert (tmp_path / "a.txt").read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {"heads", "a.txt"}


def data(**arguments):
    return {"seed": 0, "data": {"class_path": "Birds", "init_args": {"root": "birds", **arguments}}}


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"num_workers": 2}, {"cache": False}])
def test_how_images_are_loaded_decides_no_result(tmp_path, change):
    results, log = ResultFolder(tmp_path), []
    first = results.step("heads", data(), writer("first", log))
    assert results.step("heads", data(**change), writer("again", log)) == first
    assert results.step("heads", data(image_size=64, **change), writer("other", log)) != first
    assert log == ["first", "other"]


def test_the_split_that_is_scored_decides_scores_only(tmp_path):
    results, log = ResultFolder(tmp_path), []
    for split in ("val", "test"):
        results.step("cameras", data(test_split=split), writer(f"cameras {split}", log), unrelated=UNSCORED)
        results.step("heads", data(test_split=split), writer(f"heads {split}", log))
    assert log == ["cameras val", "heads val", "heads test"]


def test_a_result_under_the_name_of_an_earlier_version_is_found(tmp_path):
    settings = data(batch_size=4)
    old = tmp_path / "cameras" / fingerprint(settings)
    write_text(old / "done.json", json.dumps(settings))
    write_text(tmp_path / "cameras" / "damaged" / "done.json", "{")
    results, log = ResultFolder(tmp_path), []
    assert results.step("cameras", data(batch_size=8), writer("again", log), unrelated=UNSCORED) == old
    assert results.step("cameras", data(image_size=8), writer("new", log), unrelated=UNSCORED) != old
    assert log == ["new"]
