import torch

from kpose.data.bird_pictures import random_backdrop, render_birds
from kpose.data.scene import Draws
from kpose.templates import bird


def test_a_picture_depends_on_its_number_alone():
    [alone, among] = (render_birds(bird(), indices, 16, seed=1) for indices in ([7], [3, 7]))
    for name, values in alone.items():
        torch.testing.assert_close(values[0], among[name][1], msg=name)
    assert alone["image"].shape == (1, 3, 16, 16)
    assert alone["mask"].unique().tolist() == [0, 1]


def test_backdrops_differ_and_stay_in_range():
    first, second = (random_backdrop(16, torch.zeros(2), Draws(0, [number])) for number in (0, 1))
    for image in (first, second):
        assert image.shape == (3, 16, 16)
        assert image.min() >= 0
        assert image.max() <= 1
    assert (first - second).abs().mean() > 0.02
    assert torch.equal(first, random_backdrop(16, torch.zeros(2), Draws(0, [0])))
