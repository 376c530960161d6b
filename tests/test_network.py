"""Networks come back from folders and checkpoints, in any process; what is wrong with a file is one line."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from processes import run_forked
from transformers import ResNetBackbone, ResNetConfig

import kpose
from kpose.backbones import TinyBackbone, TransformersBackbone
from kpose.data import SyntheticBirdsDataModule
from kpose.heads import KeypointHead, QuaternionHead
from kpose.inference import Predictor
from kpose.network import PoseNetwork
from kpose.reconstruction import MeshReconstructor, TextureHead
from kpose.structures import Domain, FeatureSpec, Template
from kpose.tasks import PoseEstimator
from kpose.templates import bird

IMAGE = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
HEADS = {
    "class": QuaternionHead,
    "partial": partial(KeypointHead, num_keypoints=8, width=8),
    "lambda": lambda spec, template: KeypointHead(spec, template, num_keypoints=8, width=8),
}
OWN_HEAD = "from kpose.heads import QuaternionHead\nclass OwnHead(QuaternionHead):\n    pass\n"


def big() -> Any:
    return bird()._replace(vertices=1.1 * bird().vertices)


def network(head: Any = QuaternionHead, **settings: Any) -> PoseNetwork:
    torch.manual_seed(0)
    return PoseNetwork(TinyBackbone(width=8), head, image_size=64, **settings).eval()


def checkpoint(path: Path, head: Any = QuaternionHead, **settings: Any) -> Path:
    """Write what a trainer writes of an untrained task."""
    torch.manual_seed(0)
    task = PoseEstimator(TinyBackbone(width=8), head, **settings).eval()
    task.network.image_size = 64
    contents: dict[str, Any] = {"state_dict": task.state_dict(), "hyper_parameters": dict(task.hparams)}
    task.on_save_checkpoint(contents)
    torch.save(contents, path)
    return path


def edited(path: Path, **changes: Any) -> Path:
    """Change a checkpoint, entries of its recipe by names with ``recipe_`` before them."""
    contents = torch.load(path, weights_only=True)
    recipe = {name.removeprefix("recipe_"): v for name, v in changes.items() if name.startswith("recipe_")}
    contents |= {name: v for name, v in changes.items() if not name.startswith("recipe_")}
    if recipe:
        contents["recipe"] = {**contents["recipe"], **recipe}
    torch.save(contents, path)
    return path


def refusal(path: Path, kind: type[Exception] = ValueError, **options: Any) -> str:
    """Return the one line that says why a checkpoint cannot be used."""
    with pytest.raises(kind) as caught:
        PoseNetwork.from_checkpoint(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@torch.no_grad()
def same(first: PoseNetwork, second: PoseNetwork) -> bool:
    cameras = first(IMAGE).camera, second(IMAGE).camera
    return all(torch.equal(a, b) for a, b in zip(*cameras, strict=True))


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_a_network_comes_back_from_its_folder(head: Any, tmp_path: Path) -> None:
    first = network(
        head,
        template=big(),
        reconstructor=partial(MeshReconstructor, texture=partial(TextureHead, height=16, width=4)),
    )
    first.save(tmp_path / "bird")
    assert {path.name for path in (tmp_path / "bird").iterdir()} == {"config.json", "model.safetensors"}
    second = PoseNetwork.load(tmp_path / "bird")
    assert same(first, second)
    assert second.image_size == 64
    assert second.template.part_names == bird().part_names
    assert torch.equal(second.template.vertices, big().vertices)
    assert torch.equal(
        second.reconstruct(second.backbone(IMAGE)).texture, first.reconstruct(first.backbone(IMAGE)).texture
    )
    assert second.recipe() == first.recipe()


def test_a_task_comes_back_from_its_checkpoint_alone(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.ckpt", HEADS["partial"], feature_dropout=0.3, template=big())
    task = PoseEstimator.load_from_checkpoint(path)
    assert task.feature_dropout.p == 0.3
    assert task.network.image_size == 64
    assert same(task.eval().network, PoseNetwork.from_checkpoint(path))
    assert PoseEstimator.load_from_checkpoint(path, feature_dropout=0.1).feature_dropout.p == 0.1


class Binned(QuaternionHead):
    def __init__(self, spec: FeatureSpec, template: Template, *, bins: torch.Tensor) -> None:
        super().__init__(spec, template)


SCRIPT = """
import functools, warnings, pytorch_lightning as pl, torch, kpose
warnings.simplefilter("ignore")
from kpose.heads import QuaternionHead
class Own(QuaternionHead):
    pass
heads = {"keypoint": functools.partial(kpose.KeypointHead, num_keypoints=8, width=8), "own": Own}
for name, head in heads.items():
    folder = name
    data = kpose.data.SyntheticBirdsDataModule(
        num_train=8, num_val=4, num_test=4, image_size=32, batch_size=4, cache_dir="cache"
    )
    task = kpose.PoseEstimator(kpose.TinyBackbone(width=8), head)
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", logger=False, default_root_dir=folder,
        enable_progress_bar=False, enable_model_summary=False)
    trainer.fit(task, data)
    task.network.save(folder + "/bird")
    trainer.save_checkpoint(folder + "/bird.ckpt")
    with torch.no_grad():
        camera = task.eval()(torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)).camera
    torch.save(tuple(camera), folder + "/camera.pt")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train two heads in another process, and return the folder of their networks."""
    folder = tmp_path_factory.mktemp("trained")
    exit_code, _, errors = run_forked(SCRIPT, folder)
    assert exit_code == 0, errors
    return folder


@torch.no_grad()
def test_what_one_process_has_trained_others_use(trained: Path, tmp_path: Path) -> None:
    folder = trained / "keypoint"
    wanted = torch.load(folder / "camera.pt", weights_only=True)
    image = torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)
    found = [
        PoseNetwork.load(folder / "bird"),
        PoseNetwork.from_checkpoint(folder / "bird.ckpt"),
        PoseEstimator.load_from_checkpoint(folder / "bird.ckpt").eval().network,
        Predictor.from_pretrained(folder / "bird").network,
        Predictor.from_checkpoint(folder / "bird.ckpt").network,
        kpose.load(folder / "bird").network,
    ]
    Predictor(found[0]).save_pretrained(tmp_path / "again")
    found.append(PoseNetwork.load(tmp_path / "again"))
    for one in found:
        assert one.image_size == 32
        assert all(torch.equal(a, b) for a, b in zip(one(image).camera, wanted, strict=True))


def test_a_head_of_a_script_is_named(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = trained / "own"
    wanted = torch.load(folder / "camera.pt", weights_only=True)
    with pytest.raises(
        ValueError, match=r"__main__\.Own was defined in the script .* Move Own into a module, import it"
    ):
        PoseNetwork.load(folder / "bird")
    monkeypatch.setattr(
        sys.modules["__main__"], "Own", type("Own", (QuaternionHead,), {"__module__": "__main__"}), raising=False
    )
    found = PoseNetwork.load(folder / "bird", trusted_modules=["__main__"])
    with torch.no_grad():
        camera = found(torch.linspace(0, 1, 3 * 32 * 32).view(1, 3, 32, 32)).camera
    assert all(torch.equal(a, b) for a, b in zip(camera, wanted, strict=True))


def test_fitting_remembers_the_size_of_images_and_what_they_are(tmp_path: Path) -> None:
    data = SyntheticBirdsDataModule(
        num_train=4, num_val=2, num_test=2, image_size=32, batch_size=2, cache_dir=tmp_path / "cache"
    )
    task = PoseEstimator(TinyBackbone(width=8), QuaternionHead)
    pl.Trainer(fast_dev_run=1, accelerator="cpu", enable_progress_bar=False, enable_model_summary=False).fit(
        task, data
    )
    assert task.network.image_size == 32
    assert Predictor(task).image_size == 32
    assert task.network.domain == Domain("rendered birds", "bird", "kpose's own birds", "camera labels")


def test_a_network_knows_what_it_was_trained_on(tmp_path: Path) -> None:
    domain = Domain("photographs of birds", "bird", "CUB-200-2011", "no pose labels")
    network(domain=domain).save(tmp_path)
    loaded = PoseNetwork.load(tmp_path)
    assert loaded.domain == domain
    assert "trained on photographs of birds (CUB-200-2011, no pose labels)" in str(loaded)
    network().save(tmp_path)
    assert PoseNetwork.load(tmp_path).domain is None


def test_half_of_a_file_holds_nearly_the_same_network(tmp_path: Path) -> None:
    whole = network(KeypointHead)
    whole.save(tmp_path / "whole")
    whole.save(tmp_path / "half", half=True)
    assert next(whole.parameters()).dtype == torch.float32
    half = PoseNetwork.load(tmp_path / "half")
    assert torch.equal(half.vertices, whole.vertices)
    with torch.no_grad():
        heatmaps = [one(IMAGE).heatmaps for one in (half, whole)]
    assert heatmaps[0].dtype == torch.float32
    torch.testing.assert_close(heatmaps[0], heatmaps[1], atol=2e-3, rtol=0)
    sizes = [(tmp_path / name / "model.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.65 * sizes[0]


def test_a_cut_checkpoint_is_refused(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path / "whole.ckpt", HEADS["partial"]).read_bytes()
    for share in (0.1, 0.5, 0.99):
        (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
        assert "is damaged, cut short or no checkpoint" in refusal(tmp_path / "cut.ckpt")


def test_other_versions_and_damage_are_named(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "x.ckpt")
    whole = path.read_bytes()
    for changes, line in (
        ({"recipe_format": 99, "recipe_version": "9.0"}, "written by kpose 9.0; this is"),
        ({"recipe": {"format": 2}}, "is incomplete or damaged"),
        ({"recipe_part_names": None}, "is incomplete or damaged"),
        ({"recipe_part_names": ["beak"]}, "needs one vertex for each part"),
        ({"recipe_image_size": 99_999}, "needs an image size of at most 4096 pixels"),
        (
            {"recipe_backbone": {"class_path": "kpose.backbones.TinyBackbone", "init_args": {"breadth": 8}}},
            "breadth",
        ),
        ({"recipe_head": encoded(KeypointHead)}, "weights of another network"),
    ):
        path.write_bytes(whole)
        assert line in refusal(edited(path, **changes))
    path.write_bytes(whole)
    weights = torch.load(path, weights_only=True)["state_dict"]
    weights["network.faces"] = weights["network.faces"] + 1000
    assert "faces" in refusal(edited(path, state_dict=weights))


def encoded(head: Any) -> dict[str, Any]:
    description: dict[str, Any] = network(head).recipe()["head"]
    return description


@pytest.mark.parametrize(
    "head",
    [
        {"factory": "stranger.Head"},
        {"factory": "os.system"},
        {"factory": "kpose.heads.base.nn.Linear"},
        {"factory": "kpose.heads.keypoint.torch"},
        {"factory": "kpose.heads.smooth.gelu"},
        {"factory": "kpose._files.write_text"},
        {"factory": "Head"},
        {"factory": None},
        {"class_path": "stranger.Head"},
        {"factory": "kpose.heads.KeypointHead", "init_args": {"loss": {"class_path": "stranger.Loss"}}},
        {"factory": "kpose.heads.KeypointHead", "init_args": {"loss": {"tuple": [{"factory": "stranger.Loss"}]}}},
    ],
)
def test_strangers_run_nothing(head: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stranger.py").write_text("raise SystemExit('run')")
    monkeypatch.syspath_prepend(tmp_path)
    path = edited(checkpoint(tmp_path / "x.ckpt"), recipe_head=head)
    assert "cannot be" in refusal(path)
    with pytest.raises(ValueError, match=r"no class of kpose|cannot be built"):
        PoseEstimator.load_from_checkpoint(path)


def test_trusted_modules_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_heads.py").write_text(OWN_HEAD)
    monkeypatch.syspath_prepend(tmp_path)
    path = edited(checkpoint(tmp_path / "x.ckpt"), recipe_head={"factory": "own_heads.OwnHead"})
    assert "trusted_modules" in refusal(path)
    found = PoseNetwork.from_checkpoint(path, trusted_modules=["own_heads"])
    assert type(found.head).__name__ == "OwnHead"
    task = PoseEstimator.load_from_checkpoint(path, trusted_modules=["own_heads"])
    assert type(task.network.head) is type(found.head)
    found.save(tmp_path / "folder")
    with pytest.raises(ValueError, match=r"own_heads\.OwnHead is no class of kpose"):
        PoseNetwork.load(tmp_path / "folder")
    assert same(PoseNetwork.load(tmp_path / "folder", trusted_modules=["own_heads"]), found)


def test_what_only_this_process_knows_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    class Local(QuaternionHead):
        pass

    with pytest.raises(TypeError, match="classes and functions of a module's top level"):
        network(Local).save(tmp_path / "bird")
    with pytest.raises(TypeError, match=r"Binned\(bins=\.\.\.\): A recipe needs plain values"):
        network(partial(Binned, bins=torch.zeros(3))).save(tmp_path / "bird")
    assert not (tmp_path / "bird").exists()


def test_transformers_models_may_be_gone(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-resnet"
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], layer_type="basic")
    ResNetBackbone(config).save_pretrained(folder)
    first = PoseNetwork(TransformersBackbone(folder, (2, 3, 4)), QuaternionHead).eval()
    first.save(tmp_path / "bird")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    second = PoseNetwork.load(tmp_path / "bird")
    assert second.backbone.frozen
    assert same(first, second)
    assert str(folder) not in (tmp_path / "bird" / "config.json").read_text()


def test_a_bad_folder_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"There is no config\.json"):
        PoseNetwork.load(folder)
    network().save(folder)
    for name in ("model.safetensors", "config.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: len(whole) // 2] if name != "config.json" else b"{}")
        with pytest.raises(ValueError, match="holds no network of kpose") as caught:
            PoseNetwork.load(folder)
        assert "\n" not in str(caught.value)
        (folder / name).write_bytes(whole)
    text = (folder / "config.json").read_text()
    for changed, word in (
        ("true", "no network"),
        ("[" * 100_000, "nested"),
        (text.replace('"image_size": ', '"image_size": 9999'), "image size"),
        (text.replace('"version"', '"x": NaN, "version"'), "NaN"),
    ):
        (folder / "config.json").write_text(changed)
        with pytest.raises(ValueError, match=word):
            PoseNetwork.load(folder)


def test_saving_replaces_and_is_the_same_every_time(tmp_path: Path) -> None:
    network().save(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    network(HEADS["partial"]).save(tmp_path)
    network().save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first
    assert json.loads(first["config.json"])["kpose"]["head"]["factory"] == "kpose.heads.QuaternionHead"


def test_the_summary_has_five_lines() -> None:
    lines = str(network()).splitlines()
    assert len(lines) == 5
    assert "crops of 64 pixels" in lines[0]
    assert "QuaternionHead" in lines[2]
    assert "none" in lines[3]
    assert "642 vertices" in lines[4]
