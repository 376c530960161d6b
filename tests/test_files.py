import os
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from kpose._files import model_source, safe_name, write_file, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(fresh):
        fresh.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        write_file(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_mode_is_that_of_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_file(tmp_path / "a.safetensors", lambda fresh: save_file({"x": torch.zeros(1)}, fresh))
        write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


def test_the_file_is_not_there_before_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.txt"

    def save(fresh):
        assert not path.exists()
        assert fresh.parent == path.parent
        fresh.write_text("whole")

    write_file(path, save)
    assert path.read_text() == "whole"


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("robin", "robin"), (".hidden", "hidden"), ("a b?*", "a_b__"), ("-n", "n"), ("", "unnamed"),
        ("..", "unnamed"), ("é", "é"),
    ],
)  # fmt: skip
def test_safe_name(name, safe):
    assert safe_name(name) == safe
    assert safe_name(safe) == safe


@pytest.mark.parametrize("name", ["resnet-50", "facebook/sam2.1-hiera-tiny", "_owner/name", "1/2"])
def test_what_may_be_a_name_on_the_hub_is_left_to_it(name, monkeypatch):
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda *_, **__: SimpleNamespace())
    assert model_source(name) == name


def test_a_hub_that_does_not_answer_is_one_line_at_once(tmp_path, monkeypatch):
    asked = []

    def refuse(url, timeout):
        asked.append((url, timeout))
        raise ConnectionError("[Errno -2] Name or service\nnot known")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", refuse)
    with pytest.raises(
        OSError, match=r"^me/none is neither a folder nor in the cache .*service not known\). Check"
    ):
        model_source("me/none")
    assert len(asked) == 1
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path))
    assert model_source("me/none") == "me/none"


@pytest.mark.parametrize(
    "name", ["/nowhere", "./nowhere", "../nowhere", "~/nowhere", "a/b/c", "a/", "C:\\nowhere", "a b"]
)
def test_what_can_be_no_name_on_the_hub_is_a_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"^There is no folder "):
        model_source(name)
    (tmp_path / "a b").mkdir()
    assert model_source(tmp_path / "a b") == str(tmp_path / "a b")
    assert model_source("a b") == "a b"


def test_a_safe_name_is_short():
    assert len(safe_name("日" * 300).encode()) <= 240
    assert safe_name("x" * 300) == "x" * 60
