import pytest
import torch
import trimesh

from kpose.geometry import vertex_normals
from kpose.geometry._mesh import edges, face_normals, is_closed, mirror_pairs, volume


def sphere(subdivisions=2, dtype=torch.float64):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return torch.tensor(mesh.vertices, dtype=dtype), torch.tensor(mesh.faces)


def test_normals_of_a_sphere_point_outwards():
    vertices, faces = sphere()
    assert torch.allclose(vertex_normals(vertices, faces), vertices, atol=5e-2)
    centers = vertices[faces].mean(1)
    assert ((face_normals(vertices, faces) * centers).sum(-1) > 0.9).all()


def test_normals_agree_with_trimesh():
    mesh = trimesh.creation.annulus(0.3, 1.0, 0.7)
    vertices, faces = torch.tensor(mesh.vertices), torch.tensor(mesh.faces)
    assert torch.allclose(face_normals(vertices, faces), torch.tensor(mesh.face_normals.copy()), atol=1e-6)
    assert torch.allclose(volume(vertices, faces), torch.tensor(mesh.volume))


def test_normals_take_batches_and_keep_dtype():
    vertices, faces = sphere(dtype=torch.float32)
    batch = torch.stack((vertices, 2 * vertices))[None]
    assert vertex_normals(batch, faces).shape == (1, 2, len(vertices), 3)
    assert vertex_normals(batch, faces).dtype == torch.float32
    assert torch.allclose(volume(batch, faces)[0, 1], 8 * volume(vertices, faces))


def test_face_without_area_has_zero_normal_and_zero_gradient():
    vertices = torch.zeros(3, 3, requires_grad=True)
    normal = vertex_normals(vertices, torch.tensor([[0, 1, 2]]))
    normal.sum().backward()
    assert (normal == 0).all()
    assert (vertices.grad == 0).all()


def test_normals_gradcheck():
    vertices, faces = sphere(subdivisions=0)
    assert torch.autograd.gradcheck(lambda v: vertex_normals(v, faces), (vertices.requires_grad_(),))


def test_edges_satisfy_euler():
    vertices, faces = sphere()
    assert len(vertices) - len(edges(faces)) + len(faces) == 2
    assert (edges(faces)[:, 0] < edges(faces)[:, 1]).all()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("count", [0, 1, 500])
@pytest.mark.parametrize("largest", [1, 20, 2**31 - 1])
def test_edges_are_the_distinct_pairs_whatever_the_indices(largest, count, dtype):
    faces = torch.randint(largest, (count, 3), dtype=dtype)
    pairs = torch.cat((faces[:, :2], faces[:, 1:], faces[:, [2, 0]])).sort(-1).values
    expected = torch.unique(pairs, dim=0)
    assert torch.equal(edges(faces), expected)
    assert edges(faces).dtype == dtype


def test_is_closed():
    _, faces = sphere(1)
    assert is_closed(faces)
    assert is_closed(faces.flip(-1))
    assert not is_closed(faces[1:])
    assert not is_closed(torch.cat((faces[:1].flip(-1), faces[1:])))
    assert not is_closed(torch.cat((faces, faces)))
    assert not is_closed(faces[:0])


def test_mirror_pairs_of_an_icosphere():
    vertices, _ = sphere(3, torch.float32)
    mirror = mirror_pairs(vertices)
    assert torch.equal(mirror[mirror], torch.arange(len(vertices)))
    assert torch.allclose(vertices[mirror], vertices * torch.tensor([-1.0, 1.0, 1.0]), atol=1e-6)
    assert torch.equal(mirror == torch.arange(len(vertices)), vertices[:, 0].abs() < 1e-6)


def test_mirror_pairs_errors():
    vertices, _ = sphere(1)
    with pytest.raises(ValueError, match="symmetric about x = 0"):
        mirror_pairs(vertices + 0.1)
    with pytest.raises(ValueError, match="one partner"):
        mirror_pairs(torch.cat((vertices, vertices)))
    assert mirror_pairs(vertices[:0]).shape == (0,)
