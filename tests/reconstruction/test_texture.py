import math

import pytest
import torch

from kpose.reconstruction import TextureHead
from kpose.reconstruction.texture import _double, _period
from kpose.rendering import HardRenderer
from kpose.structures import Camera, Features, FeatureSpec
from kpose.templates import bird, template_mesh
from kpose.templates.uv import spherical_uv

SPEC = FeatureSpec((4, 8), (16, 32))


def features(batch, cells=2):
    return Features((torch.randn(batch, 4, 2 * cells, 2 * cells), torch.randn(batch, 8, cells, cells)))


def with_margin():
    """Return a bird that is twisted about its length, so that faces cross the seam and reach into a margin."""
    template = bird()
    x, y, z = template.vertices.unbind(-1)
    angle = 0.2 + y
    twisted = torch.stack((x * angle.cos() - z * angle.sin(), y, x * angle.sin() + z * angle.cos()), -1)
    uv, uv_faces = spherical_uv(twisted, template.faces)
    return template._replace(uv=uv, uv_faces=uv_faces)


def head(template=None, **settings):
    # Larger weights than at the start: the texture has contrast.
    made = TextureHead(SPEC, template or bird(), height=32, width=8, **settings)
    torch.nn.init.normal_(made.output.weight, std=0.5)
    return made


def columns_of_turned(made, turn):
    """Decode with the map at the start turned around the circle by a share of it."""
    pyramid = features(1)
    x = torch.nn.functional.interpolate(made.reduce(pyramid.maps[-1]), (4, 8), mode="bilinear")
    found = []
    for shift in (0, round(8 * turn)):
        y = x.roll(shift, -1)
        for block in made.start:
            y = block(y)
        for block in made.blocks:
            y = block(_double(y))
        found.append(y)
    return found


def test_colors_and_sizes():
    for height in (8, 32, 128):
        texture = TextureHead(SPEC, bird(), height=height, width=4)(features(2))
        assert texture.shape == (2, 3, height, 2 * height)
        assert ((texture > 0) & (texture < 1)).all()


@pytest.mark.parametrize("height", [0, 4, 48, 100, 8192])
def test_other_heights_are_refused(height):
    with pytest.raises(ValueError, match="needs a height of 8 times a power of two, at most 4096; got"):
        TextureHead(SPEC, bird(), height=height)


def test_doubling_takes_the_last_column_for_the_neighbor_of_the_first():
    x = torch.randn(1, 1, 2, 6)
    assert torch.allclose(_double(x.roll(1, -1)), _double(x).roll(2, -1), atol=1e-6)
    wide = torch.cat((x, x, x), -1)
    plain = torch.nn.functional.interpolate(wide, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.allclose(_double(x), plain[..., 12:24], atol=1e-6)


def test_no_column_of_the_decoder_is_special():
    still, turned = columns_of_turned(head(), 0.25)
    assert torch.allclose(still.roll(still.shape[-1] // 4, -1), turned, atol=1e-4)


def test_nothing_shows_where_the_texture_closes():
    """The jump from the last column to the first is as large as those between other columns."""
    texture = head()(features(4))
    jumps = (texture - texture.roll(1, -1)).abs().amax(2).mean((0, 1))
    assert jumps[0] < 1.2 * jumps[1:].max()


def test_symmetric_textures_mirror_themselves():
    texture = head(symmetric=True)(features(2))
    assert torch.equal(texture, texture.flip(-1))
    assert not torch.equal(head()(features(2)), head()(features(2)).flip(-1))


def test_a_symmetric_texture_gives_mirrored_pictures():
    texture = head(symmetric=True)(features(1))[0].detach()
    mesh = template_mesh(bird(), texture=texture)
    side = torch.tensor([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    mirror = torch.diag(torch.tensor([-1.0, 1, 1]))
    pictures = [
        HardRenderer().render(mesh, Camera(torch.tensor(0.7), torch.zeros(2), rotation), 48).rgb
        for rotation in (side, mirror @ side @ mirror)
    ]
    # Pixels of the outline may fall to either side of an edge.
    assert (pictures[0] - pictures[1].flip(-1)).abs().mean() < 1e-3
    assert pictures[0].mean() > 0.05


def test_asymmetric_coordinates_cannot_be_symmetric():
    with pytest.raises(ValueError, match=r"needs texture coordinates that a mirror turns from \(u, v\)"):
        TextureHead(SPEC, with_margin(), height=32, symmetric=True)


def test_margins_repeat_the_other_side():
    template = with_margin()
    period = _period(template)
    assert 0.8 < period < 1
    made = head(template)
    texture = made(features(1))[0]
    width = texture.shape[-1]
    # Columns that are one period apart show the same place; it may lie between two columns.
    first = torch.arange(width)[torch.arange(width) + period * width < width - 1]
    place = first + period * width
    share = place - place.floor()
    low = place.floor().long()
    other = texture[..., low] * (1 - share) + texture[..., low + 1] * share
    assert torch.allclose(texture[..., first], other, atol=0.02)
    assert texture.std() > 0.05


def test_margins_of_a_known_image():
    made = head(with_margin())
    circle = (torch.arange(64.0) + 0.5) / 64
    image = (2 * math.pi * circle).sin().expand(1, 3, 32, 64)
    expected = (2 * math.pi * made.columns).sin()
    assert torch.allclose(made._repeat(image)[0, 0, 5], expected, atol=0.005)


def test_the_texture_of_an_image_does_not_depend_on_its_batch():
    made, pyramid = head().train(), features(3)
    alone = made(Features(tuple(m[:1] for m in pyramid.maps)))
    assert torch.allclose(made(pyramid)[:1], alone, atol=1e-5)


def test_bfloat16_gives_float32():
    with torch.autocast("cpu", torch.bfloat16):
        assert head()(features(2)).dtype == torch.float32
