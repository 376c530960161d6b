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
    "--data.cache_dir=birds",
    "--data.num_train=4",
    "--data.num_val=4",
    "--data.num_test=4",
    "--data.image_size=64",
    "--data.batch_size=4",
    "--trainer.accelerator=cpu",
    "--trainer.max_epochs=1",
    "--trainer.log_every_n_steps=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
]


@pytest.mark.filterwarnings("ignore:The .* does not have many workers")
# Lightning 2.6 still registers instantiators the old way.
@pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning")
def test_the_training_line_trains_and_the_python_predicts(tmp_path, monkeypatch, capsys):
    """Run both as they stand, made small by further options, in a folder laid out as `make demo` leaves it."""
    import torch

    from kpose.cli import main
    from kpose.visualization import to_pillow

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kpose"])
    [line] = [line for block in blocks("sh") for line in block.splitlines() if "kpose fit" in line]
    words = shlex.split(line.split("kpose", 1)[1])
    main([str(CONFIGS / word) if word.endswith(".yaml") else word for word in words] + TINY)
    [checkpoint] = tmp_path.rglob("last.ckpt")
    (tmp_path / "demo" / "photos").mkdir(parents=True)
    checkpoint.rename(tmp_path / "demo" / "keypoint.ckpt")
    to_pillow(torch.rand(3, 80, 60)).save(tmp_path / "demo" / "photos" / "bird_0.png")
    [code] = blocks("python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 8
    capsys.readouterr()
    exec(compile(code, "README.md", "exec"), {})
    assert "bird_0.png" in capsys.readouterr().out
