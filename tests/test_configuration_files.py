"""Configurations of strangers: what would hang or break the parser is one line."""

import itertools
from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from kpose.cli import main as kpose
from kpose.configuration_files import BOUNDED_YAML, MOST_VALUES, load_yaml, parsing
from kpose.pipeline.command import main as pipeline

NAMES = "abcdefgh"
EXPONENTIAL = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise(NAMES)
)
DAMAGED = {
    "within itself": (b"heads: &h {x: *h}", "complete"),
    "a name within a later one of the name": (b"a: &a 1\nb: &a [*a]", "complete"),
    "exponential": (EXPONENTIAL.encode(), "values"),
    "nested lists": (b"seed: " + b"[" * 100_000, "levels"),
    "nested mappings": (b"seed: " + b"{a: " * 5_000, "levels"),
    "not UTF-8": (b"seed: \xff", "UTF-8"),
    "thousands of digits": (b"seed: " + b"9" * 5_000, "digits"),
    "code": (b"seed: !!python/object/apply:os.getcwd []", "constructor"),
    "no mapping": (b"- 1", "Unexpected config"),
}


@pytest.fixture(params=DAMAGED)
def damaged(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """Write a damaged file; give it with a word that the message has."""
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


def test_files_without_damage_are_read_as_jsonargparse_reads_them() -> None:
    text = "a: &a {x: 1e-3, y: [on, 2020-01-01, null]}\nb: {<<: *a, x: 2}\nc: *a\nd: {e: }\n"
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--given", type=dict)
    given = parser.parse_string(f"given:\n{''.join('  ' + line for line in text.splitlines(keepends=True))}")
    assert load_yaml(text) == given.given
    assert load_yaml("[" + "1, " * (MOST_VALUES - 2) + "1]") == [1] * (MOST_VALUES - 1)
    with pytest.raises(yaml.YAMLError, match="values"):
        load_yaml("[" + "1, " * MOST_VALUES + "1]")


def test_other_parsers_of_the_program_read_as_before() -> None:
    deep = "[" * 60 + "]" * 60
    for mode, fits in (("yaml", True), (BOUNDED_YAML, False)):
        parser = ArgumentParser(exit_on_error=False, parser_mode=mode)
        parser.add_argument("--deep", type=list)
        if fits:
            assert parser.parse_args(["--deep", deep]).deep
        else:
            with pytest.raises(ArgumentError), parsing():
                parser.parse_args(["--deep", deep])
