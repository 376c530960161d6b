"""What is said of settings before anything heavy is imported, and after."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cli.conftest import call
from jsonargparse import ArgumentParser

from kpose.cli.commands import CONFIGURED
from kpose.cli.configuration import answer, named_files, suggestion, with_bases
from kpose.cli.lightning import CommandLine
from kpose.pipeline import Pipeline

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"


def test_commands_with_configurations_answer_before_anything_heavy_is_imported() -> None:
    calls = [
        [command, *words] for command in CONFIGURED for words in (["--help"], ["--nope"], ["--config", "no.yaml"])
    ]
    code = (
        f"import sys\nfrom kpose.cli import main\nfor call in {calls}:\n"
        "    try: main(call)\n    except SystemExit: pass\n"
        "    heavy = {'torch', 'numpy', 'trimesh', 'pytorch_lightning', 'transformers'} & set(sys.modules)\n"
        "    assert not heavy, (call, heavy)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path.cwd())


def test_help_lists_what_the_parsers_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("pipeline", "--help") == 0
    text = capsys.readouterr().out
    parser = ArgumentParser()
    parser.add_class_arguments(Pipeline)
    assert all(f"--{name.partition('.')[0]}" in text for name in parser.get_defaults().as_flat().__dict__)
    assert "the built-in bird when None" in " ".join(text.split())
    assert call("fit", "--config", "any.yaml", "--help") == 0
    text = capsys.readouterr().out
    for word in ("--trainer.max_epochs", "--ckpt_path", "--seed_everything", "--model", "--data", "--config"):
        assert word in text
    assert set(CommandLine.subcommands()) < set(CONFIGURED)


@pytest.mark.parametrize("command", ["fit", "pipeline"])
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            "seed:\n\t- 1\n",
            ", line 2: found character '\\t' that cannot start any token (YAML takes spaces, no tabs)",
        ),
        ("trainer:\n  max_epochs: 3\n   devices: 1\n", ", line 3: mapping values are not allowed here"),
        ("dat: {}\n", ": there is no setting dat; did you mean data?"),
        ("- 1\n", " needs settings, NAME: VALUE on each line; it holds none"),
    ],
)
def test_a_damaged_file_is_named_among_several(
    command: str, content: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("data: {}\n")
    bad.write_text(content)
    assert call(command, "--config", good, f"--config={bad}", "--config", good) == 2
    assert capsys.readouterr().err == f"kpose {command}: {bad}{line}\n"


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--trainr.max_epochs=3", "there is no option --trainr; did you mean --trainer?"),
        ("--trainer.max_epox=3", "there is no option --trainer.max_epox; did you mean --trainer.max_epochs?"),
        ("--zzz", "there is no option --zzz"),
    ],
)
def test_a_wrong_option_is_one_line(argument: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("fit", argument) == 2
    assert capsys.readouterr().err == f"kpose fit: {line} (kpose fit --help lists all options)\n"


def test_what_may_be_right_is_left_to_the_command(tmp_path: Path) -> None:
    file = tmp_path / "good.yaml"
    file.write_text("trainer: {max_epochs: 3}\nfit: {ckpt_path: null}\nckpt_path: last\n")
    words = "--trainer.callbacks+=LogOverlays --trainer.logger.save_dir=x --data.help --trainer.max_ep=3 -c {a: 1}"
    assert answer("fit", "train", ["--config", str(file), *words.split(" ", 4), "--ckpt_path=last"]) is None
    assert (
        answer("fit", "train", ["--config", "{trainer: {max_epochs: 3}}", "--ckpt_path", "registry:bird"]) is None
    )


def test_a_checkpoint_that_is_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "last.yaml"
    file.write_text("ckpt_path: nowhere.ckpt\n")
    for arguments in (["--ckpt_path=nowhere.ckpt"], ["--config", str(file)]):
        assert call("fit", *arguments) == 1
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("kpose fit: --ckpt_path needs nowhere.ckpt; there is no such file")


def test_the_best_checkpoint_of_no_run_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("fit", "validate", "test"):
        assert call(command, "--ckpt_path", "best") == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"kpose {command}: --ckpt_path best is that of a run of the same process")


def test_bases_come_before_their_files(tmp_path: Path) -> None:
    for name, base in (("a", None), ("b", "a"), ("c", "b")):
        content = {"seed": 1, **({"base": f"{base}.yaml"} if base else {})}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    whole = with_bases(["--seed=1", "--config", str(tmp_path / "c.yaml")])
    assert [path.name for path in named_files(whole)] == ["a.yaml", "b.yaml", "c.yaml"]
    assert whole[0] == "--seed=1"


def test_what_is_unlike_anything_has_no_suggestion() -> None:
    assert suggestion("zzz", ["data", "model"]) == ""
