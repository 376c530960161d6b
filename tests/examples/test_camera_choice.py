import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

from kpose.data import SyntheticBirdsDataModule
from kpose.geometry import box_to_crop, random_rotation
from kpose.reconstruction import CameraTable, ViewpointGrid
from kpose.structures import Camera, Features

EXAMPLES = Path(__file__).parents[2] / "examples"
COUNT, SIZE = 20, 32

pytestmark = [
    pytest.mark.filterwarnings("ignore:The .* does not have many workers"),
    # Lightning 2.6 still registers instantiators the old way.
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]


@pytest.fixture
def arguments(cache, tmp_path):
    """Name birds, and two cameras of each, of which the worse has the better loss."""
    sizes = {"num_train": COUNT, "num_val": 1, "num_test": 1, "image_size": SIZE, "batch_size": 10}
    data = SyntheticBirdsDataModule(cache_dir=cache, **sizes)
    birds = data.dataset("train")
    table = CameraTable(birds.indices, names=birds.names, grid=ViewpointGrid(2, 1))
    rows = table.rows(birds.indices)
    table.set_reference_crop(rows, box_to_crop(torch.tensor([0.0, 0.0, SIZE, SIZE]).expand(COUNT, 4)))
    true = [birds[i]["camera"] for i in range(COUNT)]
    pairs = [torch.stack(parts) for parts in zip(*true, strict=True)]
    turned = pairs[2] * torch.tensor([1.0, -1.0, -1.0])[:, None]
    both = Camera(*(part[:, None].expand(-1, 2, *part.shape[1:]).clone() for part in pairs))
    both.rotation[:, 0] = turned
    table.set_cameras(rows, both, torch.tensor([0.0, 1.0]).expand(COUNT, 2))
    table.save(tmp_path / "cameras.safetensors")
    return [
        "--data.class_path=SyntheticBirdsDataModule",
        f"--data.init_args.cache_dir={cache}",
        *(f"--data.init_args.{name}={value}" for name, value in sizes.items()),
        "--backbone={class_path: TinyBackbone, init_args: {width: 8}}",
        f"--cameras={tmp_path / 'cameras.safetensors'}",
        f"--out={tmp_path / 'out'}",
        "--views=2",
    ]


def run(*arguments):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["camera_choice.py", *arguments])
        runpy.run_path(str(EXAMPLES / "camera_choice.py"), run_name="__main__")


def test_labels_are_judged_by_themselves_and_by_what_is_learned(arguments, tmp_path):
    variants = "--variants={plain: null, chosen: {num_rotations: 20, rounds: 1}}"
    run(*arguments, variants)
    plain = json.loads((tmp_path / "out" / "plain.json").read_text())
    assert plain["mean_deg"] == pytest.approx(180, abs=1e-2)
    assert plain["opposite"] == 1
    kept = (tmp_path / "out" / "chosen.json").stat().st_mtime_ns
    run(*arguments, variants)
    assert (tmp_path / "out" / "chosen.json").stat().st_mtime_ns == kept
    table = (tmp_path / "out" / "choice.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "plain",
        "chosen",
        "the true cameras",
    ]


@pytest.mark.parametrize(("share", "least", "most"), [(1.0, 0, 25), (0.0, 80, 180)])
def test_a_regression_is_asked_about_what_it_has_not_seen(share, least, most):
    module = runpy.run_path(str(EXAMPLES / "camera_choice.py"))
    generator = torch.Generator().manual_seed(0)
    rotation = random_rotation((200,), generator=generator)
    maps = share * rotation.flatten(1)[..., None, None] + 0.1 * torch.randn(200, 9, 7, 7, generator=generator)
    camera = Camera(torch.ones(200), torch.zeros(200, 2), rotation)
    batch = {"features": Features((maps,)), "index": torch.arange(200), "camera": camera}
    assert least < module["Regression"]([batch], 5, 0.01).angles(rotation).mean() < most
