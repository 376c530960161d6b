"""Ctrl-C at the moments at which it may come, each in a process of its own."""

import subprocess
import sys

import pytest

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
