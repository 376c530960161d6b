import pytest
import torch

from kpose.backbones import TinyBackbone
from kpose.geometry import axis_angle_to_matrix
from kpose.heads import QuaternionHead
from kpose.network import PoseNetwork
from kpose.testing import example_batch

from sheets import picture_sheet, score_images, some_images, worst_images


@pytest.fixture
def network():
    torch.manual_seed(0)
    return PoseNetwork(TinyBackbone(width=4), QuaternionHead)


def test_every_image_is_scored_and_the_worst_come_first(network):
    batch = example_batch(4)
    with torch.no_grad():
        rotation = network.eval()(batch["image"]).camera.rotation
    turns = torch.tensor([10.0, 90.0, 40.0, 170.0]).deg2rad()
    batch["camera"] = batch["camera"]._replace(
        rotation=axis_angle_to_matrix(torch.stack((0 * turns, 0 * turns, turns), -1)) @ rotation
    )
    images = score_images(network, [batch])
    assert [image.angle_deg for image in images] == pytest.approx([10, 90, 40, 170], abs=0.1)
    assert [image.index for image in worst_images(images, 3)] == [3, 1, 2]
    assert len(some_images(images, 2)) == 2
    assert len(some_images(images, 24)) == 4
    sheet = picture_sheet(images, size=32, columns=2)
    assert sheet.shape[-1] == 2 * (3 * 32 + 12)
    del batch["camera"]
    unknown = score_images(network, [batch])
    assert [image.iou for image in worst_images(unknown)] == sorted(image.iou for image in unknown)
    assert picture_sheet(unknown, size=32, columns=2).shape[-1] == 2 * (2 * 32 + 12)


def test_no_photograph_is_drawn(network):
    batch = example_batch(2)
    before = picture_sheet(score_images(network, [batch]), size=32)
    images = score_images(network, [batch])
    batch["image"].fill_(0.0)
    torch.testing.assert_close(picture_sheet(images, size=32), before)
    drawn = picture_sheet(images, size=32)
    grey = (drawn - 0.55).abs().amax(0) < 0.01
    assert grey.float().mean() > 0.1
