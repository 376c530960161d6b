import logging

import pytest

from kpose._messages import counted, one_line, warn_once


def test_an_error_is_one_line() -> None:
    assert one_line(ValueError("a\n\tb  c")) == "a b c"
    assert one_line(MemoryError()) == "MemoryError"


def test_what_the_file_system_refuses_comes_with_advice() -> None:
    full = OSError(28, "No space left on device")
    assert one_line(full) == "[Errno 28] No space left on device. Free some space there, or write elsewhere."
    closed = PermissionError(13, "Permission denied", "a.png")
    line = "[Errno 13] Permission denied: 'a.png'. Change who may use it, or name another."
    assert one_line(closed) == line
    assert one_line(PermissionError(13, line)).count("name another") == 1
    assert one_line(FileNotFoundError(2, "No such file", "a.png")) == "[Errno 2] No such file: 'a.png'"


def test_a_counted_noun_has_its_form() -> None:
    assert [counted(number, "photo") for number in (0, 1, 2)] == ["0 photos", "1 photo", "2 photos"]


def test_a_warning_is_logged_once_by_each_logger(caplog: pytest.LogCaptureFixture) -> None:
    first, second = logging.getLogger("kpose.test_a"), logging.getLogger("kpose.test_b")
    for _ in range(2):
        warn_once(first, "100 % of it is missing")
        warn_once(second, "100 % of it is missing")
    warn_once(first, "something else")
    assert [(record.name, record.getMessage()) for record in caplog.records] == [
        ("kpose.test_a", "100 % of it is missing"),
        ("kpose.test_b", "100 % of it is missing"),
        ("kpose.test_a", "something else"),
    ]
