import torch

from kpose.geometry import random_rotation
from kpose.metrics.camera_pairs import CameraPairs
from kpose.structures import Camera


class Pairs(CameraPairs):
    def compute(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pairs()


def cameras(count: int) -> Camera:
    return Camera(torch.ones(count), torch.zeros(count, 2), random_rotation((count,)))


def test_pairs_of_all_batches_are_kept_in_order() -> None:
    metric = Pairs()
    batches = [(cameras(count), cameras(count)) for count in (3, 1)]
    for camera, target in batches:
        metric.update(camera, target)
    rotation, target_rotation = metric.compute()
    assert torch.equal(rotation, torch.cat([camera.rotation for camera, _ in batches]))
    assert torch.equal(target_rotation, torch.cat([target.rotation for _, target in batches]))
    metric.reset()
    assert metric.pairs()[0].shape == (0, 3, 3)


def test_graphs_are_not_kept() -> None:
    metric = Pairs()
    camera = cameras(2)
    metric.update(camera._replace(rotation=camera.rotation.requires_grad_()), cameras(2))
    assert not metric.pairs()[0].requires_grad
