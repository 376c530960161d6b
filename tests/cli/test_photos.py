"""The photos that commands are given."""

from pathlib import Path

import pytest
from cli.conftest import picture

from kpose.cli.photos import given_photos, report_failure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "deeper").mkdir()
    for name in ("b10.jpg", "b9.jpg", "deeper/c.png"):
        picture().save(tmp_path / name)
    return tmp_path


def test_a_file_is_its_own_list_whether_it_is_there_or_not(folder: Path) -> None:
    failures: dict[Path, str] = {}
    for name in ("b9.jpg", "nothing.jpg"):
        assert given_photos(folder / name, failures) == [folder / name]
    assert failures == {}


def test_photos_of_a_folder_are_in_the_order_of_their_numbers(folder: Path) -> None:
    failures: dict[Path, str] = {}
    nine, ten, deep = folder / "b9.jpg", folder / "b10.jpg", folder / "deeper" / "c.png"
    assert given_photos(folder, failures) == [nine, ten]
    assert given_photos(folder, failures, deep=True) == [nine, ten, deep]
    assert given_photos(folder, failures, own=lambda _: {"b9.jpg"}) == [ten]
    assert failures == {}


def test_a_folder_without_photos_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failures: dict[Path, str] = {}
    (tmp_path / "notes.txt").touch()
    assert given_photos(tmp_path, failures) == []
    assert "has none" in failures[tmp_path]
    passed, nothing = capsys.readouterr().err.splitlines()
    assert "1 .txt" in passed
    assert nothing == failures[tmp_path]


def test_a_line_on_a_failure_names_its_file_once(capsys: pytest.CaptureFixture[str]) -> None:
    failures: dict[Path, str] = {}
    path = Path("photos/wren.jpg")
    report_failure(path, ValueError("it is damaged"), failures)
    report_failure(path, ValueError(f"{path} is damaged"), failures)
    assert capsys.readouterr().err.splitlines() == [f"{path}: it is damaged", f"{path} is damaged"]
    assert failures == {path: f"{path} is damaged"}
