import torch

from kpose.data.plumage import random_plumage
from kpose.data.scene import Draws
from kpose.templates import bird


def test_birds_of_one_kind_have_the_same_colors():
    template = bird()
    spread = {}
    for variety in (0.0, 0.5, 1.0):
        colors = [random_plumage(template.vertices, template, Draws(0, [n]), variety=variety) for n in range(12)]
        spread[variety] = torch.stack(colors).std(0).mean().item()
    assert spread[0.0] < 0.8 * spread[0.5]  # streaks and bars differ all the same
    assert spread[0.5] < 0.8 * spread[1.0]


def test_both_sides_have_the_same_colors():
    template = bird()
    colors = random_plumage(template.vertices, template, Draws(0, [3]))
    assert colors.min() >= 0
    assert colors.max() <= 1
    torch.testing.assert_close(colors, colors[template.mirror], atol=1e-3, rtol=0)
