import pytest
import torch

from kpose.heads import PoseHead
from kpose.structures import Camera, Features, PosePrediction


class Constant(PoseHead[PosePrediction]):
    """Predicts one camera for all."""

    def forward(self, features, vertices=None):
        size = len(features.maps[0])
        return PosePrediction(Camera(torch.ones(size), torch.zeros(size, 2), torch.eye(3).expand(size, 3, 3)))

    def losses(self, prediction, batch):
        return {}


def test_a_head_needs_forward_and_losses():
    with pytest.raises(TypeError, match="abstract"):
        PoseHead()


def test_by_default_a_head_reads_nothing_and_its_camera_is_that_of_the_prediction():
    head = Constant()
    prediction = head(Features((torch.zeros(2, 8, 4, 4),)))
    assert head.camera_of(prediction) is prediction.camera
    assert head.supervision == frozenset()
    assert not head.reads_shapes
