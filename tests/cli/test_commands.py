import pytest

import kpose
from kpose.cli import main
from kpose.cli.commands import COMMANDS, LIGHTNINGS
from kpose.cli.lightning import CommandLine


def test_a_configuration_before_the_command_is_read(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--config", "nowhere.yaml", "fit"])
    assert caught.value.code == 2
    assert "nowhere.yaml" in capsys.readouterr().err.splitlines()[-1]


def test_the_commands_are_listed(capsys):
    main(["--help"])
    usage = capsys.readouterr().out
    assert set(LIGHTNINGS) == set(CommandLine.subcommands())
    assert all(f"\n  {command} " in usage for command in COMMANDS)
    main(["--version"])
    assert capsys.readouterr().out == f"kpose {kpose.__version__}\n"
    for wrong in ([], ["predct"]):
        with pytest.raises(SystemExit) as caught:
            main(wrong)
        assert caught.value.code == 2
        assert capsys.readouterr().err.endswith(usage)
