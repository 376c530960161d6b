import math

import torch

from kpose.data.scene import Draws, random_cameras, random_shapes
from kpose.geometry import matrix_to_viewpoint, project
from kpose.templates import bird


def test_birds_lie_inside_the_picture():
    template = bird()
    shapes = random_shapes(template, Draws(0, range(64), stream=0))
    camera = random_cameras(shapes, Draws(0, range(64), stream=1))
    assert project(shapes, camera).abs().max() < 1


def test_cameras_are_spread_like_cubs():
    template = bird()
    shapes = template.vertices.expand(400, -1, -1)
    camera = random_cameras(shapes, Draws(0, range(400)))
    azimuth, elevation, roll = matrix_to_viewpoint(camera.rotation)
    assert torch.histc(azimuth, 8, -math.pi, math.pi).min() > 10
    assert 20 < elevation.rad2deg().std() < 40
    assert 25 < roll.rad2deg().std() < 50


def test_deformation_is_smooth_and_keeps_the_frame():
    template = bird()
    shapes = random_shapes(template, Draws(0, range(32)))
    size = template.vertices[:, 1].max() - template.vertices[:, 1].min()
    assert (shapes - template.vertices).norm(dim=-1).mean() > 0.01 * size
    edge = template.vertices[template.faces[:, 0]] - template.vertices[template.faces[:, 1]]
    stretched = (shapes[:, template.faces[:, 0]] - shapes[:, template.faces[:, 1]]).norm(dim=-1) / edge.norm(dim=-1)
    assert stretched.min() > 0.3
    assert stretched.max() < 3
    torch.testing.assert_close(shapes.mean(1), template.vertices.mean(0).expand(32, 3), atol=1e-5, rtol=0)


def test_draws_of_a_row_do_not_depend_on_the_batch():
    alone, among = Draws(1, [5]), Draws(1, [2, 5])
    for name, arguments in (("uniform", (2,)), ("normal", (3, 2)), ("integers", (100, 4))):
        assert torch.equal(getattr(alone, name)(*arguments)[0], getattr(among, name)(*arguments)[1])
    assert not torch.equal(Draws(1, [5]).normal(4), Draws(1, [5], stream=1).normal(4))
