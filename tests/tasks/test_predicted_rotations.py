import pytest
import torch

from kpose.backbones import TinyBackbone
from kpose.geometry import box_to_crop, flip_camera, random_rotation
from kpose.heads import QuaternionHead
from kpose.network import PoseNetwork
from kpose.reconstruction import CameraTable, ViewpointGrid
from kpose.structures import Camera, Features, PosePrediction
from kpose.tasks import mean_rotations


class Oracle(PoseNetwork):
    """Predict the rotation that the first pixels of a picture hold."""

    def __init__(self):
        super().__init__(TinyBackbone(width=4), QuaternionHead)

    def pose(self, features, vertices=None):
        rotation = features.maps[0].flatten(1)[:, :9].reshape(-1, 3, 3)
        return PosePrediction(Camera(torch.ones(len(rotation)), torch.zeros(len(rotation), 2), rotation))


def batch(index, rotation, flipped):
    features = rotation.reshape(-1, 1, 3, 3)
    count = len(index)
    return {
        "index": index,
        "features": Features((features,)),
        "crop": box_to_crop(torch.tensor([0.0, 0.0, 32.0, 32.0]).expand(count, 4)),
        "flipped": torch.full((count,), flipped),
    }


@pytest.fixture
def table():
    made = CameraTable(torch.tensor([10, 11, 12, 13]), grid=ViewpointGrid(4, 1))
    made.set_reference_crop(torch.arange(4), box_to_crop(torch.tensor([0.0, 0.0, 32.0, 32.0]).expand(4, 4)))
    return made


def test_predictions_for_photo_and_mirror_image_are_averaged(table):
    truth, other = random_rotation((2, 4), generator=torch.Generator().manual_seed(0))
    mirrored = flip_camera(Camera(torch.ones(4), torch.zeros(4, 2), truth)).rotation
    index = table.index
    views = [
        [batch(index, truth, False)],
        [batch(index[:2], mirrored[:2], True), batch(index[2:], mirrored[2:], True)],
    ]
    rows = torch.tensor([3, 1])
    torch.testing.assert_close(mean_rotations(table, Oracle(), views, rows), truth[rows], atol=1e-6, rtol=0)
    views.append([batch(index, other, False)])
    expected = (2 * truth + other)[rows] / 3
    torch.testing.assert_close(mean_rotations(table, Oracle(), views, rows), expected, atol=1e-6, rtol=0)


def test_every_image_needs_a_view(table):
    view = [batch(table.index[:2], torch.eye(3).expand(2, 3, 3), False)]
    with pytest.raises(ValueError, match="1 of 2 have none"):
        mean_rotations(table, Oracle(), [view], torch.tensor([0, 3]))
