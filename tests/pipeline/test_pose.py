import torch
from pipeline.small import ADAPTATION, SHAPES, backbone

from kpose.heads import QuaternionHead
from kpose.pipeline import AdaptationSettings, PoseSettings
from kpose.pipeline.pose import new_adaptation, new_pose
from kpose.pipeline.shapes import new_shapes
from kpose.reconstruction import CameraTable
from kpose.templates import bird

SETTINGS = PoseSettings(feature_dropout=0.25, learning_rate=1e-3)


def test_a_head_is_trained_on_a_copy_of_the_backbone(tmp_path):
    own = backbone()
    task = new_pose(SETTINGS, own, QuaternionHead, template=bird(), cameras=tmp_path / "cameras.safetensors")
    assert task.network.backbone is not own
    assert torch.equal(next(task.network.backbone.parameters()), next(own.parameters()))
    assert task.network.reconstructor is None
    assert task.feature_dropout.p == 0.25
    assert task.optimizer([torch.nn.Parameter(torch.zeros(1))]).defaults["lr"] == 1e-3


def test_after_stage_2_heads_see_its_shapes_and_stage_4_trains_them(tmp_path):
    shapes = new_shapes(SHAPES, backbone(), CameraTable(torch.arange(4)), bird(), ranked=False)
    task = new_pose(SETTINGS, backbone(), QuaternionHead, template=bird(), cameras=tmp_path, shapes=shapes)
    adaptation = new_adaptation(
        AdaptationSettings(task=ADAPTATION), QuaternionHead, template=bird(), shapes=shapes, trained=tmp_path
    )
    assert adaptation.start == tmp_path / "last.ckpt"
    for network, trained in ((task.network, False), (adaptation.network, True)):
        assert network.reconstructor is not shapes.reconstructor
        assert next(network.reconstructor.parameters()).requires_grad == trained
        for name, value in shapes.reconstructor.state_dict().items():
            assert torch.equal(network.reconstructor.state_dict()[name], value), name
