import pytest
import torch
from scipy.ndimage import distance_transform_edt

from kpose.losses import distance_transform, silhouette_loss


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (24, 31)])
def test_distances_are_those_of_scipy(shape):
    mask = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0)) > 0.9
    mask[:, 0, 0] = True
    expected = torch.stack([torch.from_numpy(distance_transform_edt(~m.numpy())) for m in mask])
    torch.testing.assert_close(distance_transform(mask), (expected / max(shape)).float())


def test_an_empty_mask_is_far_from_everything():
    assert (distance_transform(torch.zeros(2, 3, 4, dtype=torch.bool)) == 1).all()


def test_the_loss_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    rendered, mask = torch.rand(2, 3, 5, 6, generator=generator)
    distance = torch.rand(3, 5, 6, generator=generator)
    for image, value in enumerate(silhouette_loss(rendered, mask, distance)):
        pixels = [
            (rendered[image, y, x] - mask[image, y, x]) ** 2 + distance[image, y, x] * rendered[image, y, x]
            for y in range(5)
            for x in range(6)
        ]
        torch.testing.assert_close(value, torch.stack(pixels).mean())


def test_many_renderings_are_compared_with_one_mask():
    rendered = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 4, 4)
    mask[:, :, :2] = 1
    losses = silhouette_loss(rendered, mask, distance_transform(mask > 0.5))
    assert losses.shape == (2, 3)
    again = silhouette_loss(rendered[1, 2], mask[1, 0], distance_transform(mask[1, 0] > 0.5))
    torch.testing.assert_close(losses[1, 2], again)


def test_the_loss_is_least_at_the_mask_itself():
    mask = torch.zeros(1, 8, 8)
    mask[0, 2:6, 3:6] = 1
    distance = distance_transform(mask > 0.5)
    assert silhouette_loss(mask, mask, distance).item() == 0
    assert silhouette_loss(mask.roll(1, -1), mask, distance).item() > 0
    # Farther out costs more, although as many pixels are wrong.
    assert silhouette_loss(mask.roll(4, -2), mask, distance) > silhouette_loss(mask.roll(-2, -1), mask, distance)
