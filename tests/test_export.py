"""Exported networks give what torch gives, for any number of images."""

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

from kpose.backbones import TinyBackbone
from kpose.heads import GramSchmidtHead, ProcrustesHead, QuaternionHead
from kpose.network import PoseNetwork, TensorNetwork

HEADS = {"quaternion": QuaternionHead, "gram-schmidt": GramSchmidtHead, "procrustes": ProcrustesHead}


def network(head, **settings):
    torch.manual_seed(0)
    return PoseNetwork(TinyBackbone(width=8), head, **settings).eval()


def images(count):
    return torch.rand(count, 3, 64, 64, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_torch_exports_networks(head):
    tensors = TensorNetwork(network(head))
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(tensors, (images(2),), dynamic_shapes={"image": {0: batch}}).module()
    for count in (1, 3):
        for found, expected in zip(program(images(count)).items(), tensors(images(count)).items(), strict=True):
            assert found[0] == expected[0]
            torch.testing.assert_close(found[1], expected[1])


# In a process of its own: the checks of shapes that tests add to kpose fix the batch to that of the example.
CODE = """
import json, sys, onnxruntime, torch
from functools import partial
from kpose.backbones import TinyBackbone
from kpose.heads import KeypointHead, ProcrustesHead
from kpose.network import PoseNetwork, TensorNetwork
from kpose.reconstruction import MeshReconstructor

torch.manual_seed(0)
head = {"procrustes": ProcrustesHead, "keypoints": partial(KeypointHead, num_keypoints=8, width=8)}[sys.argv[1]]
shapes = {"procrustes": None, "keypoints": MeshReconstructor}[sys.argv[1]]
network = PoseNetwork(TinyBackbone(width=8), head, reconstructor=shapes, image_size=64).eval()
network.export(sys.argv[2])
options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # errors
session = onnxruntime.InferenceSession(sys.argv[2], options)
names = [part.name for part in session.get_outputs()]
differences = dict.fromkeys(names, 0.0)
for count in (1, 2, 5):
    image = torch.rand(count, 3, 64, 64)
    expected = TensorNetwork(network)(image)
    assert list(expected) == names
    for name, part in zip(names, session.run(None, {"image": image.numpy()})):
        assert part.shape == expected[name].shape
        differences[name] = max(differences[name], float(abs(expected[name].numpy() - part).max()))
print(json.dumps(differences))
"""


@pytest.mark.parametrize("head", ["procrustes", "keypoints"])
def test_onnx_files_hold_the_whole_network(tmp_path, head):
    for module in ("onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    command = [sys.executable, "-c", CODE, head, str(tmp_path / "bird.onnx")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
    differences = json.loads(result.stdout.splitlines()[-1])
    names = {"scale", "translation", "rotation", "vertices"}
    assert differences.keys() == names | ({"keypoints", "confidence"} if head == "keypoints" else set())
    assert max(differences.values()) < 1e-4, differences


def test_without_the_extra_or_a_size_one_line_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="image_size=224"):
        network(QuaternionHead).export(tmp_path / "bird.onnx")
    find = importlib.util.find_spec
    monkeypatch.setattr("kpose._export.find_spec", lambda name: None if name == "onnx" else find(name))
    with pytest.raises(ModuleNotFoundError, match=r"needs onnx; .*kpose\[onnx\]"):
        network(QuaternionHead, image_size=64).export(tmp_path / "bird.onnx")
    assert not list(tmp_path.iterdir())
