import importlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kpose.backbones import EfficientNetLite
from kpose.heads import QuaternionHead
from kpose.network import PoseNetwork

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_it_is_the_published_network(tmp_path, monkeypatch):
    for name in ("custom_backbone", "train_bird"):
        monkeypatch.syspath_prepend(str(EXAMPLES / name))
    published = importlib.import_module("efficientnet_lite").EfficientNetLite().eval()
    weights = importlib.import_module("convert_weights").convert(published.model.state_dict())
    save_file(weights, tmp_path / "weights.safetensors")
    ours = EfficientNetLite((4, 16, 32), weights=tmp_path / "weights.safetensors").eval()
    image = torch.rand(2, 3, 96, 64)
    with torch.no_grad():
        for expected, found in zip(published(image).maps, ours(image).maps[1:], strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("strides", [(), (16, 8), (2, 4), (8, 8)])
def test_strides_that_it_has_not_are_refused(strides):
    with pytest.raises(ValueError, match="EfficientNetLite needs strides of"):
        EfficientNetLite(strides)


def test_what_is_early_stays_as_it_is():
    backbone = EfficientNetLite((16, 32), frozen="early").train()
    sum(one.square().mean() for one in backbone(torch.rand(2, 3, 64, 64)).maps).backward()
    trained = {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}
    assert not any(name.startswith(("stem", "stages.0.", "stages.1.")) for name in trained)
    assert any(name.startswith("stages.2.") for name in trained)
    assert not any(
        parameter.ndim == 4 and parameter.shape[1] == 1 for parameter in map(backbone.get_parameter, trained)
    )
    assert not backbone.frozen


def test_a_network_is_built_again_without_the_file_of_weights(tmp_path):
    save_file(EfficientNetLite((32,)).state_dict(), tmp_path / "weights.safetensors")
    network = PoseNetwork(EfficientNetLite((32,), weights=tmp_path / "weights.safetensors"), QuaternionHead).eval()
    (tmp_path / "weights.safetensors").unlink()
    rebuilt = PoseNetwork.from_recipe(network.recipe(), network.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(rebuilt(image).camera.rotation, network(image).camera.rotation)
