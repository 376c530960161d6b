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


@pytest.mark.parametrize(
    ("arguments", "range_"),
    [
        (["predict", "a.jpg", "--out", "out", "--image-size", "100000"], "--image-size must be from 1 to 4096"),
        (
            ["predict", "a.jpg", "--out", "out", "--sheet", "100000"],
            "--sheet needs a number of photos from 1 to 64",
        ),
        (["predict", "a.jpg", "--out", "out", "--texture-size", "100000"], "--texture-size must be from 1 to 4096"),
        (["video", "a.mp4", "--out", "out", "--image-size", "100000"], "--image-size must be from 1 to 4096"),
        (["video", "a.mp4", "--out", "out", "--largest", "100000"], "--largest must be from 2 to 4096"),
        (["app", "--image-size", "100000"], "--image-size must be from 1 to 4096"),
        (["template", "a.obj", "--out", "a.safetensors", "--vertices", "1" + "0" * 9], "from 50 to 20000"),
        (["template", "a.obj", "--out", "a.safetensors", "--size", "0"], "--size must be positive"),
    ],
)
def test_no_size_takes_all_memory(arguments, range_, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert range_ in line
    assert not [*tmp_path.iterdir()]
