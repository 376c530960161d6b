import subprocess
from pathlib import Path

import pytest

import kpose

from origin import origin


def test_paths_of_this_machine_are_left_out():
    words = ["python", "table1.py", "--root=/path/to/birds", "--backbone", "/path/to/net"]
    words += [
        "--out",
        "/path/to/a b",
        "--heads",
        "mine/heads.yaml",
        "--pose.epochs=3",
        "--data.init_args.name",
        "a b",
        "svd=/path/to/svd.ckpt",
    ]
    assert origin(words)["command"] == (
        "python table1.py --root=$KPOSE_CUB_ROOT --backbone $KPOSE_BACKBONE --out 'a b' "
        "--heads mine/heads.yaml --pose.epochs=3 --data.init_args.name 'a b' svd=svd.ckpt"
    )
    assert "CPU cores" in origin(words)["hardware"]


@pytest.mark.parametrize("inside", [True, False])
def test_the_commit_is_that_of_kpose_only(inside, monkeypatch, tmp_path):
    root = Path(kpose.__file__).parents[1]

    def answer(command, **settings):
        top = str(root if inside else tmp_path)
        return subprocess.CompletedProcess(command, 0, stdout=(top if "rev-parse" in command else "abc1234") + "\n")

    monkeypatch.setattr(subprocess, "run", answer)
    assert origin([])["commit"] == ("abc1234" if inside else None)


def test_no_git_is_no_commit(monkeypatch):
    def fail(*args, **settings):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", fail)
    assert origin([])["commit"] is None
