"""Configurations that cannot be read are one line."""

from pathlib import Path

import pytest

from kpose.cli import main as kpose
from kpose.cli.pipeline import main as pipeline

DAMAGED = {
    "not UTF-8": (b"seed: \xff", "utf-8"),
    "thousands of digits": (b"seed: " + b"9" * 5_000, "digits"),
    "code": (b"seed: !!python/object/apply:os.getcwd []", "constructor"),
    "no mapping": (b"- 1", "Unexpected config"),
}


@pytest.fixture(params=DAMAGED)
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """Write a damaged file; return it with a word that the message has."""
    content, word = DAMAGED[request.param]
    (tmp_path / "config.yaml").write_bytes(content)
    return tmp_path / "config.yaml", word


def test_pipeline_refuses_a_damaged_file_in_one_line(
    damaged: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, word = damaged
    assert pipeline(["--config", str(path), "--out", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert word in line


def test_fit_refuses_a_damaged_file_without_a_trace(
    damaged: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    path, word = damaged
    with pytest.raises(SystemExit, match="2"):
        kpose(["fit", "--config", str(path)])
    assert word in capsys.readouterr().err.partition("error: ")[2]
