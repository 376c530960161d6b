"""Ctrl-C at the moments at which it may come, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest
from cli.conftest import picture
from processes import run_forked

from kpose.cli import main
from kpose.cli.commands import COMMANDS

START = "import os, signal, sys\nfrom kpose.cli.interruption import end_at_once, let_finish\n"
INTERRUPT = "os.kill(os.getpid(), signal.SIGINT)\n"
LINE = "kpose: Interrupted.\n"


def run(code: str) -> tuple[int, str, str]:
    """Run code and return its exit code and what it wrote."""
    process = subprocess.run([sys.executable, "-c", START + code], capture_output=True, text=True, check=False)
    return process.returncode, process.stdout, process.stderr


def test_nothing_that_imports_can_swallow_it() -> None:
    code = f"end_at_once()\ntry:\n    {INTERRUPT}except BaseException: print('swallowed')\n"
    assert run(code) == (130, "", LINE)


def test_what_writes_is_left_to_finish() -> None:
    code = f"end_at_once()\nlet_finish()\ntry:\n    {INTERRUPT}except KeyboardInterrupt: print('finished')\n"
    assert run(code) == (0, "finished\n", "")


@pytest.mark.parametrize(
    ("before", "code"),
    [("", 143), ("let_finish()", 3), ("let_finish(writes=False)", -15), ("let_finish()\nend_at_once()", 143)],
)
def test_a_process_that_is_terminated_finishes_what_it_writes_alone(before: str, code: int) -> None:
    terminate = "os.kill(os.getpid(), signal.SIGTERM)"
    whole = f"end_at_once()\n{before}\ntry:\n    {terminate}\nexcept SystemExit as end: sys.exit(end.code - 140)\n"
    assert run(whole) == (code, "", "")


def test_a_process_that_ignores_it_goes_on() -> None:
    code = f"signal.signal(signal.SIGINT, signal.SIG_IGN)\nend_at_once()\nlet_finish()\n{INTERRUPT}print('on')\n"
    assert run(code) == (0, "on\n", "")


@pytest.mark.parametrize("moment", ["import", "work", "end"])
def test_a_command_ends_with_a_line_and_the_code_of_shells(moment: str) -> None:
    parts = {name: INTERRUPT.strip() if name == moment else "pass" for name in ("import", "work", "end")}
    code = (
        "import types\nimport kpose.cli.commands as commands\n"
        "class Module(types.ModuleType):\n"
        "    def main(self, args):\n"
        "        let_finish()\n"
        f"        {parts['work']}\n"
        "        return 0\n"
        "def load(name):\n"
        "    try:\n"
        f"        {parts['import']}\n"
        "    except KeyboardInterrupt: print('swallowed')\n"
        "    return Module(name)\n"
        "commands.importlib = types.SimpleNamespace(import_module=load)\n"
        "sys.argv = ['kpose', 'app']\n"
        f"commands.main()\n{parts['end']}\n"
    )
    assert run(code) == (130, "", LINE)


def test_the_code_of_lightning_becomes_that_of_shells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Module:
        @staticmethod
        def main(_: list[str]) -> int:
            try:
                raise KeyboardInterrupt
            except KeyboardInterrupt:
                sys.exit(1)

    monkeypatch.setitem(sys.modules, "interrupted", Module)
    monkeypatch.setitem(COMMANDS, "app", ("interrupted", ""))
    with pytest.raises(SystemExit) as end:
        main(["app"])
    assert end.value.code == 130
    assert capsys.readouterr().err == LINE


SMALL = "num_train=2", "num_val=2", "num_test=2", "image_size=32", "batch_size=2", "cache_dir={folder}/out"
# What a command is doing when the signal comes, and its arguments.
BUSY = {
    "predict": ("kpose.inference.Predictor.__call__", ["{folder}/a.png", "--whole-frame", "--out={folder}/out"]),
    "template": ("kpose.templates.build_template", ["--body", "1", "1", "1", "--out={folder}/out/a.safetensors"]),
    "fit": (
        "kpose.tasks.PoseEstimator.training_step",
        [
            "--model=PoseEstimator", "--model.init_args.backbone=TinyBackbone",
            "--model.init_args.head=QuaternionHead", "--data=SyntheticBirdsDataModule",
            *(f"--data.init_args.{setting}" for setting in SMALL), "--trainer.default_root_dir={folder}/out",
            "--trainer.accelerator=cpu", "--trainer.logger=false", "--trainer.enable_checkpointing=false",
        ],
    ),
}  # fmt: skip


def signaled(command: str, name: str, folder: Path) -> tuple[int, str]:
    """Run a command that gets a signal while it is busy; return exit code and errors."""
    picture().save(folder / "a.png")
    place, arguments = BUSY[command]
    owner, _, function = place.rpartition(".")
    words = ["kpose", command, *(word.format(folder=folder) for word in arguments)]
    code, _, errors = run_forked(
        f"{START}import pydoc\nowner = pydoc.locate({owner!r})\n"
        f"owner.{function} = lambda *_, **__: os.kill(os.getpid(), signal.{name})\n"
        f"sys.argv = {words!r}\nfrom kpose.cli import main\nmain()\n",
        folder,
    )
    assert "Traceback" not in errors
    assert not [path for path in (folder / "out").rglob("*") if path.suffix == ".tmp"]
    return code, errors


def test_a_busy_command_says_one_line(tmp_path: Path) -> None:
    code, errors = signaled("predict", "SIGINT", tmp_path)
    assert code == 130
    [line] = errors.splitlines()
    assert line.startswith("Interrupted; the same call goes on from here. Predicted 0 of 1 photo; see ")


def test_a_training_says_one_line_beside_lightnings(tmp_path: Path) -> None:
    code, errors = signaled("fit", "SIGINT", tmp_path)
    assert code == 130
    assert errors.splitlines().count(LINE.strip()) == 1


def test_a_busy_command_that_is_terminated_writes_nothing(tmp_path: Path) -> None:
    assert signaled("template", "SIGTERM", tmp_path) == (143, "")
    assert not (tmp_path / "out").exists()
