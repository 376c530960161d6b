import pytest
import torch
import trimesh

from kpose.backbones import TinyBackbone
from kpose.heads import KeypointHead, QuaternionHead
from kpose.network import PoseNetwork
from kpose.templates import bird, load_template


def test_a_head_on_another_template_is_refused(tmp_path):
    path = tmp_path / "sphere.ply"
    trimesh.creation.icosphere(subdivisions=2).export(path)
    with pytest.raises(ValueError, match=r"KeypointHead needs the template .* Give the head the same file"):
        PoseNetwork(TinyBackbone(width=8), KeypointHead, template=path)
    network = PoseNetwork(TinyBackbone(width=8), QuaternionHead, template=path)
    assert torch.equal(network.vertices, load_template(path).vertices)


def test_the_template_of_the_head_is_that_of_the_network():
    network = PoseNetwork(TinyBackbone(width=8), KeypointHead)
    assert torch.equal(network.vertices, bird().vertices)
