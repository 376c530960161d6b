"""Compiled and exported networks give what torch gives, for any number of images."""

import importlib.util
import json

import pytest
import torch
from processes import run_forked

from kpose.backbones import TinyBackbone
from kpose.heads import GramSchmidtHead, QuaternionHead
from kpose.network import PoseNetwork, TensorNetwork

HEADS = {"quaternion": QuaternionHead, "gram-schmidt": GramSchmidtHead}  # the others are written as files below


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


# In a process of its own: torch.compile does not look into the checks of shapes that tests add to kpose, and those
# fix the batch of exported networks to that of the example.
CODE = """
import gc, importlib.util, json, torch
from functools import partial
import kpose.pnp.search, kpose.pnp.solver
from kpose.backbones import TinyBackbone
from kpose.heads import GramSchmidtHead, KeypointHead, PaperKeypointHead, ProcrustesHead, QuaternionHead
from kpose.losses import PositionLoss
from kpose.network import PoseNetwork, TensorNetwork
from kpose.pnp import solve_pnp
from kpose.reconstruction import MeshReconstructor
from kpose.structures import Features, FeatureSpec
from kpose.templates import bird

# One step where the solver takes two, three or more: the operations are the same, and following them takes long.
descend = kpose.pnp.solver.descend
kpose.pnp.solver.descend = lambda *inputs, steps, **settings: descend(*inputs, steps=1, **settings)
kpose.pnp.search._ROUNDS = (1, 1)

# Graphs are many objects that stay: to look through them for garbage takes a fifth of the time.
gc.disable()
small = {"num_keypoints": 8, "width": 8}

def compiled():
    heads = {
        "quaternion": QuaternionHead, "gram-schmidt": GramSchmidtHead, "procrustes": ProcrustesHead,
        "keypoints": partial(KeypointHead, **small), "paper": partial(PaperKeypointHead, **small),
        "position": partial(KeypointHead, loss=PositionLoss(), **small),
    }
    features = Features((torch.rand(2, 8, 8, 8), torch.rand(2, 16, 4, 4)))
    def differ(function, *inputs):
        torch.compiler.reset()
        graph = torch.compile(function, backend="eager", fullgraph=True)
        pairs = zip(function(*inputs), graph(*inputs), strict=True)
        return max(float((one - other).abs().max()) for one, other in pairs)
    def maps(found):
        return found.heatmaps, found.keypoints
    results = {}
    for name, head in heads.items():
        head = head(FeatureSpec((8, 16), (8, 16)), bird()).eval()
        if hasattr(head, "solver"):
            results[name] = differ(lambda seen: maps(head(seen)), features)
        else:
            results[name] = differ(lambda seen: head(seen).camera, features)
    points = torch.rand(3, 12, 3, requires_grad=True)
    weights = torch.rand(3, 12)
    solve = lambda *inputs: solve_pnp(*inputs).camera
    results["solver"] = differ(solve, points[..., :2] * 0.7, points, weights)
    return results

def written(head, shapes):
    import onnxruntime
    network = PoseNetwork(TinyBackbone(width=8), head, reconstructor=shapes, image_size=64).eval()
    network.export("bird.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession("bird.onnx", options)
    names = [part.name for part in session.get_outputs()]
    differences = dict.fromkeys(names, 0.0)
    for count in (1, 2, 5):
        image = torch.rand(count, 3, 64, 64)
        expected = TensorNetwork(network)(image)
        assert list(expected) == names
        for name, part in zip(names, session.run(None, {"image": image.numpy()})):
            assert part.shape == expected[name].shape
            differences[name] = max(differences[name], float(abs(expected[name].numpy() - part).max()))
    return differences

torch.manual_seed(0)
results = {"compiled": compiled()}
if all(map(importlib.util.find_spec, ("onnxscript", "onnxruntime"))):
    results["procrustes"] = written(ProcrustesHead, None)
    results["keypoints"] = written(partial(KeypointHead, **small), MeshReconstructor)
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def differences(tmp_path_factory):
    """Return by how much graphs and files differ from what they were made of."""
    exit_code, said, errors = run_forked(CODE, tmp_path_factory.mktemp("onnx"))
    assert exit_code == 0, errors[-3000:]
    return json.loads(said.splitlines()[-1])


def test_heads_and_the_solver_are_one_graph_each(differences):
    """torch.compile finds nothing that breaks them."""
    assert len(differences["compiled"]) == 7
    assert max(differences["compiled"].values()) < 1e-5, differences


@pytest.mark.parametrize("head", ["procrustes", "keypoints"])
def test_onnx_files_hold_the_whole_network(differences, head):
    for module in ("onnxscript", "onnxruntime"):
        pytest.importorskip(module)
    names = {"scale", "translation", "rotation", "vertices"}
    assert differences[head].keys() == names | ({"keypoints", "confidence"} if head == "keypoints" else set())
    assert max(differences[head].values()) < 1e-4, differences


def test_without_the_extra_or_a_size_one_line_says_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="image_size=224"):
        network(QuaternionHead).export(tmp_path / "bird.onnx")
    find = importlib.util.find_spec
    monkeypatch.setattr("kpose._export.find_spec", lambda name: None if name == "onnx" else find(name))
    with pytest.raises(ModuleNotFoundError, match=r"needs onnx; .*kpose\[onnx\]"):
        network(QuaternionHead, image_size=64).export(tmp_path / "bird.onnx")
    assert not list(tmp_path.iterdir())
