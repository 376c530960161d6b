"""Functions as commands."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from kpose.cli.parser import ArgumentError, run


@dataclass
class Place:
    """Where.

    Args:
        corner: two numbers
        tag: words, one by one
    """

    corner: tuple[float, float] | None = None
    tag: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.corner == (0.0, 0.0):
            raise ValueError("no such corner")


def call(*args: str, fail: BaseException | None = None) -> tuple[int, dict[str, Any]]:
    seen: dict[str, Any] = {}

    def shoot(
        photos: list[Path],
        place: Place,
        whole_frame: bool = False,
        kind: Literal["glb", "ply"] | None = None,
        rows: int | None = None,
        rod: list[list[float]] | None = None,
        box: list[tuple[int, int]] | None = None,
    ) -> int:
        """Shoot photos.

        Whatever they show.

        Args:
            photos: photo files
            place: where
            whole_frame: take all
            kind: kind of file
            rows: so many rows (default: 8)
            rod: any numbers
            box: two numbers
        """
        if fail is not None:
            raise fail
        seen.update(locals())
        return 3

    photos = {"positional": "+", "action": "store", "type": Path, "metavar": "PHOTO"}
    return run(shoot, args, photos=photos, rows={"nargs": "?", "const": 8}), seen


def test_types_are_the_forms_of_options() -> None:
    words = "--whole-frame --kind ply --rows --rod 1 2 --rod -3 --box 1 2 --box 3 4 --corner -1 2.5 --tag a --tag b"
    code, seen = call("a.png", "b c.png", *words.split())
    assert code == 3
    assert seen["photos"] == [Path("a.png"), Path("b c.png")]
    assert seen["place"] == Place((-1.0, 2.5), ["a", "b"])
    assert (seen["whole_frame"], seen["kind"], seen["rows"]) == (True, "ply", 8)
    assert (seen["rod"], seen["box"]) == ([[1.0, 2.0], [-3.0]], [(1, 2), (3, 4)])
    _, seen = call("--rows=2", "a.png")
    assert seen["rows"] == 2
    assert (seen["whole_frame"], seen["kind"], seen["rod"], seen["box"]) == (False, None, None, None)
    assert seen["place"] == Place()


@pytest.mark.parametrize(
    ("args", "word"),
    [
        ("", "photos"),
        ("a.png --nothing", "--nothing"),
        ("a.png --kind obj", "obj"),
        ("a.png --rows many", "many"),
        ("a.png --corner 1", "--corner"),
        ("a.png --corner 1 x", "'x'"),
        ("a.png --box 1 x", "'x'"),
        ("a.png --corner 0 0", "no such corner"),
    ],
)
def test_wrong_arguments_are_one_line(args: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, seen = call(*args.split())
    assert (code, seen) == (2, {})
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("kpose shoot: ")
    assert word in line


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ArgumentError(None, "not both"), 2, "not both (kpose shoot --help lists all options)"),
        (ValueError("no\n photo"), 1, "no photo"),
        (MemoryError(), 1, "MemoryError"),
        (KeyboardInterrupt(), 130, "Interrupted."),
    ],
)
def test_errors_are_exit_codes(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("a.png", fail=error)[0] == code
    assert capsys.readouterr().err == f"kpose shoot: {line}\n"


def test_mistakes_of_the_code_keep_their_traceback() -> None:
    with pytest.raises(TypeError, match="a mistake"):
        call("a.png", fail=TypeError("a mistake"))


def test_the_docstring_is_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        call("--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "Shoot photos. Whatever they show." in text
    assert "Args" not in text
    for part in (
        "PHOTO photo files",
        "--whole-frame take all",
        "--rows [ROWS] so many rows",
        "{glb,ply} kind of file",
    ):
        assert part in text


MISSING = {
    "predict": "nowhere.jpg --checkpoint CHECKPOINT --out out",
    "video": "nowhere.mp4 --checkpoint CHECKPOINT --out out",
    "template": "nowhere.obj --out out.safetensors",
    "app": "--checkpoint nowhere.ckpt",
}


@pytest.mark.parametrize("command", MISSING)
def test_arguments_and_files_are_checked_before_anything_heavy_is_imported(command: str, tmp_path: Path) -> None:
    (tmp_path / "some.ckpt").touch()
    missing = MISSING[command].replace("CHECKPOINT", "some.ckpt").split()
    code = (
        "import sys\nfrom kpose.cli import main\n"
        f"for args, want in ((['x', '--nothing'], 2), ({missing}, 1)):\n"
        f"    try: main([{command!r}, *args])\n"
        "    except SystemExit as end: assert end.code == want, end.code\n"
        "heavy = {'torch', 'numpy', 'trimesh', 'pytorch_lightning', 'transformers', 'gradio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    lines = process.stderr.splitlines()
    assert len(lines) == 2
    assert "nowhere" in lines[1]
