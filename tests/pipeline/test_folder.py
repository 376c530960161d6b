import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from processes import in_two_processes, join

from kpose._files import fingerprint, write_text
from kpose.pipeline.folder import ResultFolder


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
    assert json.loads((first / "done.json").read_text()) == {"seed": 0, "after": []}


def test_a_step_that_another_run_has_finished_meanwhile_is_not_done(tmp_path, monkeypatch):
    results, log = ResultFolder(tmp_path), []

    @contextmanager
    def finished_by_another(folder):
        write_text(folder / "done.json", "{}")
        yield

    monkeypatch.setattr("kpose.pipeline.folder.locked", finished_by_another)
    results.step("cameras", {"seed": 0}, writer("second", log))
    assert log == []


def do_together(rank, folder):
    join(rank, folder)
    results, log = ResultFolder(Path(folder, "out")), []
    for text in ("first", "again"):
        step = results.step("cameras", {"seed": 0}, lambda at, text=text: log.append((text, at.name)))
    assert log == [("first", step.name)]
    assert (step / "done.json").exists()


@pytest.mark.ddp
def test_processes_of_a_run_do_a_step_together(tmp_path):
    in_two_processes(do_together, tmp_path)


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


def test_a_step_is_done_again_after_other_steps(tmp_path):
    results, log = ResultFolder(tmp_path), []
    found = []
    for seed in (0, 1, 0):
        parent = results.step("cameras", {"seed": seed}, writer(f"cameras {seed}", log))
        found.append(results.step("heads", {"epochs": 2}, writer(f"heads {seed}", log), after=[parent]))
    assert found[0] == found[2] != found[1]
    assert log == ["cameras 0", "heads 0", "cameras 1", "heads 1"]
    note = json.loads((found[0] / "done.json").read_text())
    assert note == {"epochs": 2, "after": [f"cameras/{fingerprint({'seed': 0, 'after': []})}"]}


def test_results_do_not_depend_on_where_the_folder_is(tmp_path):
    names = []
    for place in ("here", "there"):
        results = ResultFolder(tmp_path / place)
        parent = results.step("cameras", {}, writer("", []))
        names.append(results.step("heads", {}, writer("", []), after=[parent]).name)
    assert names[0] == names[1]
