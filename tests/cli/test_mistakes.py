"""Wrong names and values in configuration files, as a user of the shell sees them."""

from pathlib import Path

import pytest
from cli.conftest import call

CONFIGS = Path(__file__).parents[2] / "examples" / "configs"


def refusal(command: str, content: str, folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    """Return the line on a file that is layered over good ones."""
    file = folder / "mine.yaml"
    file.write_text(content)
    if command == "fit":
        good = ["base.yaml", "head/keypoint.yaml", "data/synthetic.yaml"]
    else:
        good = ["pipeline/synthetic.yaml"]
    files = [f"--config={CONFIGS / name}" for name in good]
    out = ["--out", str(folder / "out")] if command == "pipeline" else []
    assert call(command, *files, "--config", file, *out, *more) == 2
    [line] = capsys.readouterr().err.splitlines()
    return line.replace(str(folder), "FOLDER")


HEAD = "model: {class_path: PoseEstimator, init_args: {head: {class_path: KeypointHe%s}}}"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (HEAD % "d", "FOLDER/mine.yaml: there is no class KeypointHed; did you mean KeypointHead?"),
        (
            HEAD % "ad, init_args: {num_keypoint: 8}",
            "FOLDER/mine.yaml: KeypointHead has no argument num_keypoint; did you mean num_keypoints?",
        ),
        ("data: SyntheticBirdDataModule", "there is no class SyntheticBirdDataModule; did you mean SyntheticBirds"),
        (
            "data: {class_path: SyntheticBirdsDataModule, init_args: {image_sise: 64}}",
            "SyntheticBirdsDataModule has no argument image_sise; did you mean image_size?",
        ),
        ("trainer: {callbacks: [{class_path: LogOverlay}]}", "no class LogOverlay; did you mean LogOverlays?"),
        (
            "trainer: {max_epochs: many}",
            "FOLDER/mine.yaml: Parser key \"trainer.max_epochs\": - Expected a <class 'int'>",
        ),
        (
            "data: {class_path: CUBDataModule}",
            "CUBDataModule needs root; give it by --data.root=VALUE or in a file",
        ),
    ],
)
def test_a_mistake_in_a_file_of_fit(
    content: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line in refusal("fit", content, tmp_path, capsys)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("heads: {a: {class_path: KeypointHed}}", "FOLDER/mine.yaml: there is no class KeypointHed; did you mean"),
        ("pose: {epoch: 3}", "FOLDER/mine.yaml: PoseSettings has no argument epoch; did you mean epochs?"),
        (
            "data: {class_path: CUBDataModule, init_args: {image_size: 64}}",
            "CUBDataModule needs root; give it by --data.root",
        ),
    ],
)
def test_a_mistake_in_a_file_of_a_pipeline(
    content: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line in refusal("pipeline", content, tmp_path, capsys)


def test_a_mistake_on_the_command_line_names_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal("fit", "seed_everything: 1", tmp_path, capsys, "--model.head=kpose.heads.KeypointHed")
    assert line.startswith("kpose: there is no class KeypointHed; did you mean KeypointHead?")
