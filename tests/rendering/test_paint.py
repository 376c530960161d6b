import pytest
import torch
from rendering.scenes import IDENTITY, cameras, lumpy, sphere, textured
from torch.nn.functional import grid_sample

from kpose.rendering import CompositeRenderer, HardRenderer, SoftRenderer
from kpose.structures import Mesh

SQUARE = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0], [1, 1, 0]])
FACES = torch.tensor([[0, 2, 1], [1, 2, 3]])


def poster(texture, uv=None):
    """Return a square that fills the image, with the whole texture on it."""
    uv = (SQUARE[:, :2] + 1) / 2 if uv is None else uv
    return Mesh(SQUARE, FACES, uv=uv, uv_faces=FACES, texture=texture)


@pytest.mark.parametrize("renderer", [HardRenderer(), CompositeRenderer(1e-7), SoftRenderer(1e-7)])
def test_texture_is_upright(renderer):
    texture = torch.rand(3, 4, 6)
    rgb = renderer.render(poster(texture), IDENTITY, (4, 6)).rgb
    torch.testing.assert_close(rgb, texture, atol=1e-4, rtol=0)


def test_u_points_right_and_v_down():
    u = torch.linspace(0, 1, 8).expand(8, 8)
    rgb = HardRenderer().render(poster(torch.stack((u, u.T, torch.zeros(8, 8)))), IDENTITY, 8).rgb
    assert bool((rgb[0].diff(dim=1) > 0).all())
    assert bool((rgb[1].diff(dim=0) > 0).all())


def test_bilinear_samples_are_those_of_grid_sample():
    mesh, camera = textured(lumpy(3), 8, 12, 3), cameras(3)
    rendering = HardRenderer().render(mesh, camera, 20)
    face = rendering.face_index.clamp_min(0)
    uv = (rendering.barycentrics.unsqueeze(-1) * mesh.uv[mesh.uv_faces[face]]).sum(-2)
    expected = grid_sample(mesh.texture, 2 * uv - 1, padding_mode="border", align_corners=False)
    inner = (rendering.face_index >= 0) & ((uv[..., 0] - 0.5).abs() < 0.5 - 0.5 / 12)
    assert inner.sum() > 100
    torch.testing.assert_close(
        rendering.rgb.movedim(1, -1)[inner], expected.movedim(1, -1)[inner], atol=1e-4, rtol=0
    )


def test_texture_wraps_around_in_u_only():
    texture = torch.zeros(3, 4, 8)
    texture[0, :, 0] = 1.0
    texture[1, 0] = 1.0
    # A strip over the seam: u runs from 0.95 to 1.05 or, the same, from -0.05 to 0.05.
    for low, high in ((0.95, 1.05), (-0.05, 0.05)):
        uv = torch.tensor([[low, 0.0], [high, 0.0], [low, 1.0], [high, 1.0]])
        rgb = HardRenderer().render(poster(texture, uv), IDENTITY, 8).rgb
        red = rgb[0, 0]
        assert bool((red.diff() >= -1e-6).all())
        assert red[0] < 0.2
        assert abs(red.mean() - 0.5) < 0.01
        assert red[-1] > 0.8
        torch.testing.assert_close(rgb[1, 0], torch.ones(8), msg="v stops at the border")
        assert rgb[1, -1].abs().max() < 1e-6


def test_many_cameras_share_a_texture():
    mesh = textured(lumpy(2, 1), 8, 8, 2, 1)
    camera = cameras(2, 3)
    shared = HardRenderer().render(mesh, camera, 12).rgb
    repeated = (
        HardRenderer()
        .render(
            mesh._replace(
                vertices=mesh.vertices.expand(2, 3, -1, -1), texture=mesh.texture.expand(2, 3, -1, -1, -1)
            ),
            camera,
            12,
        )
        .rgb
    )
    torch.testing.assert_close(shared, repeated)


def test_one_appearance_for_the_whole_batch():
    mesh = sphere()._replace(vertex_colors=torch.rand(162, 3))
    assert HardRenderer().render(mesh, cameras(4), 8).rgb.shape == (4, 3, 8, 8)
