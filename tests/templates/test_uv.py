import torch
import trimesh

from kpose.templates import bird
from kpose.templates.uv import spherical_uv


def test_spherical_uv_has_no_face_across_the_seam():
    template, ball = bird(), trimesh.creation.icosphere(subdivisions=2)
    for vertices, faces in (
        (template.vertices, template.faces),
        (torch.tensor(ball.vertices), torch.tensor(ball.faces)),
    ):
        uv, uv_faces = spherical_uv(vertices, faces)
        spans = uv[uv_faces][..., 0].amax(-1) - uv[uv_faces][..., 0].amin(-1)
        assert (spans > 0.5).sum() <= 8  # around the two poles at most
        assert ((uv >= 0) & (uv <= 1)).all()


def test_front_and_rear_are_the_poles_and_the_back_is_in_the_middle():
    ball = trimesh.creation.icosphere(subdivisions=3)
    vertices, faces = torch.tensor(ball.vertices), torch.tensor(ball.faces)
    uv, uv_faces = spherical_uv(vertices, faces)
    corners, places = vertices[faces].flatten(0, 1), uv[uv_faces].flatten(0, 1)
    torch.testing.assert_close(places[:, 1], (-corners[:, 1]).clamp(-1, 1).acos() / torch.pi, atol=1e-5, rtol=0)
    back = (corners[:, 2] > 0.9) & (corners[:, 0].abs() < 1e-6)
    torch.testing.assert_close(places[back, 0], torch.full((int(back.sum()),), 0.5).double(), atol=1e-5, rtol=0)
    left = (corners[:, 0] > 0.9).nonzero().flatten()
    assert (places[left, 0] < 0.5).all()
