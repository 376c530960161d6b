import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from kpose.heads import QuaternionHead
from kpose.network import PoseNetwork

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_backbone"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLE))
    return importlib.import_module("efficientnet_lite")


def test_it_gives_what_its_spec_says(example: ModuleType) -> None:
    backbone = example.EfficientNetLite()
    maps = backbone(torch.rand(2, 3, 96, 64)).maps
    spec = zip(backbone.spec.channels, backbone.spec.strides, strict=True)
    assert [tuple(one.shape[1:]) for one in maps] == [(c, 96 // stride, 64 // stride) for c, stride in spec]
    assert not any(one.requires_grad for one in maps)


def test_a_checkpoint_needs_no_file_of_weights(example: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    network = PoseNetwork(example.EfficientNetLite(), QuaternionHead).eval()
    monkeypatch.setattr(example.EfficientnetLite0ModelFile, "get_model_file_path", lambda: "gone.pth")
    rebuilt = PoseNetwork.from_recipe(network.recipe(), network.state_dict(), trusted_modules=["efficientnet_lite"])
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(rebuilt(image).camera.rotation, network(image).camera.rotation)
