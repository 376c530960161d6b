"""Checkpoints and folders hold all that prediction needs, run nothing, and say in one line what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ResNetBackbone, ResNetConfig

from kpose.backbones import TinyBackbone, TransformersBackbone
from kpose.blueprint import build_network, draw_blueprint
from kpose.heads import KeypointHead, QuaternionHead
from kpose.inference import Predictor
from kpose.network import PoseNetwork
from kpose.tasks import PoseEstimator
from kpose.templates import bird, save_template

PHOTO = torch.rand(3, 80, 70, generator=torch.Generator().manual_seed(3))


def load(path: Path) -> dict[str, Any]:
    contents: dict[str, Any] = torch.load(path, weights_only=True)
    return contents


def refusal(path: Path, kind: type[Exception] = ValueError, **options: Any) -> str:
    """Give the one line that says why a checkpoint cannot be used."""
    with pytest.raises(kind) as caught:
        Predictor.from_checkpoint(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    assert "There is no checkpoint" in refusal(tmp_path / "missing.ckpt", FileNotFoundError)
    assert "is a folder" in refusal(tmp_path)
    path = tmp_path / "x.ckpt"
    path.write_text("weights")
    assert "is damaged, cut short or no checkpoint" in refusal(path)
    path.write_bytes(b"")
    assert "is damaged, cut short or no checkpoint" in refusal(path)
    torch.save({"weight": torch.zeros(1)}, path)
    assert "no checkpoint of a training run" in refusal(path)
    torch.save(torch.nn.Linear(1, 1), path)
    assert "more than tensors and plain values" in refusal(path)
    torch.save({"state_dict": {}, "hyper_parameters": 1.0}, path)
    assert "is another, or of an older kpose" in refusal(path)
    torch.save({"state_dict": {"network.weight": "text"}, "blueprint": {}}, path)
    assert "no checkpoint of a training run" in refusal(path)


def test_a_cut_checkpoint_is_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    whole = checkpoints["keypoint"].read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
        assert "is damaged, cut short or no checkpoint" in refusal(tmp_path / "cut.ckpt")


def test_the_image_size_is_needed(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    contents, path = load(checkpoints["keypoint"]), tmp_path / "other.ckpt"
    torch.save({**contents, "blueprint": {**contents["blueprint"], "image_size": None}}, path)
    assert "needs the image size" in refusal(path)
    assert Predictor.from_checkpoint(path, image_size=96).image_size == 96


def test_other_stages_and_older_versions_are_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    contents, path = load(checkpoints["quaternion"]), tmp_path / "other.ckpt"
    blueprint = contents.pop("blueprint")
    torch.save({**contents, "hyper_parameters": {}}, path)
    assert "was trained from Python" in refusal(path)
    old = {name.removeprefix("network."): value for name, value in contents["state_dict"].items()}
    stage = {"_class_path": "kpose.tasks.ShapeTraining"}
    torch.save({**contents, "state_dict": old, "hyper_parameters": stage}, path)
    assert "is one of ShapeTraining, or of an older kpose" in refusal(path)
    torch.save({**contents, "blueprint": {**blueprint, "format": 99, "version": "9.0"}}, path)
    assert "written by kpose 9.0, which is newer than this one" in refusal(path)
    torch.save({**contents, "blueprint": {**blueprint, "templates": {}}}, path)
    assert "cannot be built" in refusal(path)
    torch.save({**contents, "blueprint": {"format": 1}}, path)
    assert "cannot be used" in refusal(path)


def test_weights_of_another_network_are_named(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    one, other = load(checkpoints["quaternion"]), load(checkpoints["keypoint"])
    torch.save({**one, "state_dict": other["state_dict"]}, tmp_path / "mixed.ckpt")
    assert "weights of another network" in refusal(tmp_path / "mixed.ckpt")


@pytest.mark.parametrize(
    "head",
    [
        {"class_path": "stranger.Head"},
        {"class_path": "os.system"},
        {"class_path": "kpose.heads.base.nn.Linear"},
        {"class_path": "kpose.heads.keypoint.torch"},
        {"class_path": "kpose.heads.smooth.gelu"},
        {"class_path": "Head"},
        {"class_path": "kpose.heads.KeypointHead", "init_args": {"template": {"class_path": "stranger.Shape"}}},
        {"class_path": "kpose.heads.KeypointHead", "init_args": {"sigma": "stranger.sigma"}},
    ],
)
def test_strangers_run_nothing(
    head: dict[str, Any], checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stranger.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    contents = load(checkpoints["keypoint"])
    network = {**contents["blueprint"]["network"], "head": head}
    path = tmp_path / "stranger.ckpt"
    torch.save({**contents, "blueprint": {**contents["blueprint"], "network": network}}, path)
    assert "cannot be" in refusal(path)


def test_trusted_modules_are_imported(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from kpose.heads import QuaternionHead\nclass OwnHead(QuaternionHead):\n    pass\n"
    (tmp_path / "own_heads.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    contents = load(checkpoints["quaternion"])
    network = {**contents["blueprint"]["network"], "head": {"class_path": "own_heads.OwnHead"}}
    path = tmp_path / "own.ckpt"
    torch.save({**contents, "blueprint": {**contents["blueprint"], "network": network}}, path)
    assert "trusted_modules" in refusal(path)
    predictor = Predictor.from_checkpoint(path, trusted_modules=["own_heads"])
    assert type(predictor.network.head).__name__ == "OwnHead"
    predictor.save_pretrained(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"own_heads\.OwnHead is no class of kpose"):
        Predictor.from_pretrained(tmp_path / "folder")
    assert Predictor.from_pretrained(tmp_path / "folder", trusted_modules=["own_heads"])(PHOTO)


def test_templates_may_be_gone(tmp_path: Path) -> None:
    template = bird()
    path = tmp_path / "big.safetensors"
    save_template(template._replace(vertices=1.1 * template.vertices), path)
    arguments = {
        "backbone": {"class_path": "kpose.backbones.TinyBackbone", "init_args": {"width": 8}},
        "head": {
            "class_path": "kpose.heads.KeypointHead",
            "init_args": {"num_keypoints": 8, "template": str(path)},
        },
        "template": str(path),
    }
    network = PoseNetwork(
        TinyBackbone(width=8), lambda spec: KeypointHead(spec, path, num_keypoints=8), template=path
    )
    blueprint = draw_blueprint(network, arguments, image_size=64)
    path.unlink()
    assert blueprint is not None
    again = build_network(blueprint)
    torch.testing.assert_close(again.template.vertices, 1.1 * template.vertices)
    torch.testing.assert_close(again.head.template.vertices, 1.1 * template.vertices)
    assert again.template.part_names == template.part_names
    assert torch.equal(again.head.keypoint_indices, network.head.keypoint_indices)


def test_transformers_models_may_be_gone(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-resnet"
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic")
    ResNetBackbone(config).save_pretrained(folder)
    arguments = {
        "backbone": {
            "class_path": "kpose.backbones.TransformersBackbone",
            "init_args": {"name": str(folder), "out_stages": [2, 3, 4], "frozen": True, "pretrained": True},
        },
        "head": {"class_path": "kpose.heads.QuaternionHead"},
    }
    task = PoseEstimator(TransformersBackbone(folder, (2, 3, 4)), QuaternionHead).eval()
    contents = {"state_dict": task.state_dict(), "hyper_parameters": arguments, "image_size": 64}
    task.on_save_checkpoint(contents)
    torch.save(contents, tmp_path / "resnet.ckpt")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    predictor = Predictor.from_checkpoint(tmp_path / "resnet.ckpt")
    assert predictor.network.backbone.frozen
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(
            predictor.network.backbone(image).maps, task.network.backbone(image).maps, strict=True
        ):
            torch.testing.assert_close(ours, theirs)
    assert str(folder) not in json.dumps(load(tmp_path / "resnet.ckpt")["blueprint"]["network"])


@pytest.mark.parametrize("head", ["keypoint", "quaternion"])
def test_a_folder_gives_the_predictor_that_was_saved(
    head: str, checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    predictor = Predictor.from_checkpoint(checkpoints[head])
    predictor.save_pretrained(tmp_path / "folder")
    names = {path.name for path in (tmp_path / "folder").iterdir()}
    expected = {"README.md", "config.json", "model.safetensors", "network_template.safetensors"}
    assert names - {"head_template.safetensors"} == expected
    again = Predictor.from_pretrained(tmp_path / "folder", batch_size=3)
    assert (again.image_size, again.batch_size) == (64, 3)
    [found], [first] = again(PHOTO), predictor(PHOTO)
    torch.testing.assert_close(found.camera, first.camera, rtol=0, atol=0)
    assert torch.equal(found.mesh.vertices, first.mesh.vertices)
    again.save_pretrained(tmp_path / "copy")
    copy = (tmp_path / "copy" / "config.json").read_text()
    assert copy == (tmp_path / "folder" / "config.json").read_text()


def test_pushing_uploads_what_saving_writes(
    checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from types import SimpleNamespace

    from huggingface_hub import HfApi

    def upload(self: HfApi, *, repo_id: str, folder_path: Path, **_: object) -> str:
        shutil.copytree(folder_path, tmp_path / "hub")
        return repo_id

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **_: SimpleNamespace(repo_id=repo_id))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert Predictor.from_checkpoint(checkpoints["quaternion"]).push_to_hub("me/bird") == "me/bird"
    assert "from_pretrained" in (tmp_path / "hub" / "README.md").read_text()
    assert Predictor.from_pretrained(tmp_path / "hub")(PHOTO)


def test_a_bad_folder_is_one_line(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"There is no config\.json"):
        Predictor.from_pretrained(folder)
    Predictor.from_checkpoint(checkpoints["keypoint"]).save_pretrained(folder)
    for name in ("model.safetensors", "network_template.safetensors", "config.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2] if name != "config.json" else b"{}")
        with pytest.raises(ValueError, match="holds no network of kpose") as caught:
            Predictor.from_pretrained(folder)
        assert "\n" not in str(caught.value)
        (folder / name).write_bytes(whole)
    whole = (folder / "config.json").read_text()
    for text, word in (
        ("true", "no network"),
        ("[" * 100_000, "nested"),
        (whole.replace('"image_size": ', '"image_size": 9999'), "image size"),
        (whole.replace('"version"', '"x": NaN, "version"'), "NaN"),
    ):
        (folder / "config.json").write_text(text)
        with pytest.raises(ValueError, match=word):
            Predictor.from_pretrained(folder)


def test_a_network_built_in_python_cannot_be_saved(
    tiny_task: Callable[[str], PoseEstimator], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="needs the classes that its network was made of"):
        Predictor(tiny_task("quaternion"), image_size=64).save_pretrained(tmp_path / "folder")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^There is no folder .*nowhere\."):
        Predictor.from_pretrained(tmp_path / "nowhere")
