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
        (HEAD % "d", "Expected a dot import path string: KeypointHed; did you mean KeypointHead?"),
        (
            HEAD % "ad, init_args: {num_keypoint: 8}",
            "Option 'num_keypoint' is not accepted; did you mean num_keypoints?",
        ),
        ("data: SyntheticBirdDataModule", "SyntheticBirdDataModule; did you mean SyntheticBirdsDataModule?"),
        (
            "data: {class_path: SyntheticBirdsDataModule, init_args: {image_sise: 64}}",
            "Option 'image_sise' is not accepted; did you mean image_size?",
        ),
        ("trainer: {callbacks: [{class_path: LogOverlay}]}", "did you mean LogOverlays?"),
        (
            "trainer: {max_epochs: many}",
            "Parser key \"trainer.max_epochs\": - Expected a <class 'int'> Given value: many",
        ),
        (
            "data: {class_path: CUBDataModule}",
            "class_path 'kpose.data.CUBDataModule': the following arguments are required: root",
        ),
    ],
)
def test_a_mistake_in_a_file_of_fit(
    content: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal("fit", content, tmp_path, capsys)
    assert line in said
    assert said.startswith("kpose: FOLDER/mine.yaml: ")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (
            "heads: {a: {class_path: KeypointHed}}",
            "Expected a dot import path string: KeypointHed; did you mean KeypointHead?",
        ),
        ("pose: {epoch: 3}", "Option 'epoch' is not accepted; did you mean epochs?"),
        (
            "data: {class_path: CUBDataModule, init_args: {image_size: 64}}",
            "class_path 'kpose.data.CUBDataModule': the following arguments are required: root",
        ),
    ],
)
def test_a_mistake_in_a_file_of_a_pipeline(
    content: str, line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refusal("pipeline", content, tmp_path, capsys)
    assert line in said
    assert said.startswith("kpose pipeline: FOLDER/mine.yaml: ")


def test_a_mistake_on_the_command_line_names_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal("fit", "seed_everything: 1", tmp_path, capsys, "--model.head=kpose.heads.KeypointHed")
    assert line.startswith("kpose: Parser key")
    assert "KeypointHed; did you mean KeypointHead?" in line
