"""What the README promises: its files exist, its Python runs, and its commands have the arguments they name."""

import re
import shlex
import sys
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "examples" / "configs"
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed"),
    # Lightning 2.6 still registers instantiators the old way.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.M | re.S)


def test_local_links_and_pictures_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", README)
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing, f"README.md points to {missing}"


def test_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    named = set(re.findall(r"\bmake (\w+)\b", "\n".join(blocks("sh"))))
    assert named
    assert named <= targets


def test_configurations_exist():
    for line in "\n".join(blocks("sh")).splitlines():
        folder, words = ROOT, shlex.split(line, comments=True)
        if words[:1] == ["cd"]:
            folder = ROOT / words[1]
        for flag, value in pairwise(words):
            assert flag != "--config" or (folder / value).is_file(), f"README.md names {value}, which is not there"


TINY = [
    "--model.backbone.width=8",
    "--model.head.num_keypoints=8",
    "--model.head.width=8",
    "--data.cache_dir=birds",
    "--data.num_train=4",
    "--data.num_val=4",
    "--data.num_test=4",
    "--data.image_size=32",
    "--data.batch_size=4",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


@pytest.fixture(scope="module")
def quick_start(tmp_path_factory):
    """Run the training line as it stands, made small by further options, and return the folder of the run."""
    from kpose.cli import main

    [line] = [line for block in blocks("sh") for line in block.splitlines() if "kpose fit" in line]
    words = shlex.split(line.split("kpose", 1)[1])
    folder = tmp_path_factory.mktemp("quick_start")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["kpose"])
        main([str(CONFIGS / word) if word.endswith(".yaml") else word for word in words] + TINY)
    return folder / "lightning_logs" / "version_0"


def test_the_checkpoint_of_the_training_line_is_safe_complete_and_scored(quick_start, monkeypatch, capsys):
    import torch

    from kpose.cli import main
    from kpose.heads import KeypointHead
    from kpose.tasks import PoseEstimator

    checkpoint = quick_start / "checkpoints" / "last.ckpt"
    assert "random_state" in torch.load(checkpoint, weights_only=True)
    model = PoseEstimator.load_from_checkpoint(checkpoint, weights_only=True)
    assert isinstance(model.network.head, KeypointHead)
    assert len(model.network.head.keypoint_indices) == 8
    assert "KeypointHead" in (quick_start / "config.yaml").read_text()
    assert any(path.name.startswith("events.out") for path in quick_start.iterdir())
    monkeypatch.chdir(quick_start.parents[1])
    monkeypatch.setattr(sys, "argv", ["kpose"])
    main(["test", f"--config={quick_start / 'config.yaml'}", f"--ckpt_path={checkpoint}"])
    assert "test/angle_deg" in capsys.readouterr().out


def doors() -> list[str]:
    """Return the Python of the three doors: predict, train, extend."""
    found = blocks("python")
    assert len(found) == 3
    assert all(len([line for line in code.splitlines() if line.strip()]) <= 8 for code in found)
    return found


def test_the_first_door_predicts(tmp_path, monkeypatch, capsys):
    import torch

    from kpose.visualization import to_pillow

    monkeypatch.chdir(tmp_path)
    to_pillow(torch.rand(3, 80, 60)).save("photo.jpg")
    exec(compile(doors()[0], "README.md", "exec"), {})
    assert "tensor" in capsys.readouterr().out
    assert Path("bird.glb").is_file()


def test_the_second_door_builds_a_pipeline_that_passes_its_own_checks(tmp_path, monkeypatch, capsys):
    from kpose import Pipeline

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Pipeline, "run", Pipeline.check)
    exec(compile(doors()[1], "README.md", "exec"), {})
    assert "None" in capsys.readouterr().out


def test_the_third_door_checks_a_head():
    exec(compile(doors()[2], "README.md", "exec"), {})


def test_the_landing_page_has_the_same_doors():
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"^```python\n(.*?)^```$", page, flags=re.M | re.S) == doors()
