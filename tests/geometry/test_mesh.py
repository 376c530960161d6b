import pytest
import torch
import trimesh
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from kpose.geometry import (
    edges,
    face_normals,
    is_closed,
    laplacian,
    mirror_pairs,
    surface_distances,
    vertex_normals,
    volume,
)


def sphere(subdivisions=2, dtype=torch.float64):
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    return torch.tensor(mesh.vertices, dtype=dtype), torch.tensor(mesh.faces)


def test_normals_of_a_sphere_point_outwards():
    vertices, faces = sphere()
    assert torch.allclose(vertex_normals(vertices, faces), vertices, atol=5e-2)
    centres = vertices[faces].mean(1)
    assert ((face_normals(vertices, faces) * centres).sum(-1) > 0.9).all()


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


def test_is_closed():
    _, faces = sphere(1)
    assert is_closed(faces)
    assert is_closed(faces.flip(-1))
    assert not is_closed(faces[1:])
    assert not is_closed(torch.cat((faces[:1].flip(-1), faces[1:])))
    assert not is_closed(torch.cat((faces, faces)))
    assert not is_closed(faces[:0])


@pytest.mark.parametrize("normalized", [False, True])
def test_laplacian(normalized):
    vertices, faces = sphere(1)
    matrix = laplacian(faces, len(vertices), normalized=normalized, dtype=vertices.dtype)
    dense = matrix.to_dense()
    assert torch.allclose(dense.sum(-1), torch.zeros(len(vertices), dtype=vertices.dtype), atol=1e-12)
    pairs = edges(faces)
    neighbours = [[int(b if a == v else a) for a, b in pairs if v in (a, b)] for v in range(len(vertices))]
    mean = torch.stack([vertices[index].mean(0) for index in neighbours])
    degree = torch.tensor([[1.0] if normalized else [float(len(index))] for index in neighbours]).double()
    assert torch.allclose(matrix @ vertices, degree * (vertices - mean), atol=1e-12)
    assert torch.equal(dense, dense.T) or normalized


def test_laplacian_of_a_lonely_vertex_is_zero():
    for normalized in (False, True):
        dense = laplacian(torch.tensor([[0, 1, 2]]), 4, normalized=normalized).to_dense()
        assert dense.isfinite().all()
        assert (dense[3] == 0).all()


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


def test_surface_distances_are_those_of_scipy():
    vertices, faces = sphere()
    pairs = edges(faces)
    length = (vertices[pairs[:, 0]] - vertices[pairs[:, 1]]).norm(dim=-1)
    graph = coo_matrix((length, (pairs[:, 0], pairs[:, 1])), (len(vertices), len(vertices)))
    expected = torch.from_numpy(dijkstra(graph, directed=False, indices=[0, 7, 90]))
    distances = surface_distances(vertices, faces, torch.tensor([0, 7, 90]))
    assert torch.allclose(distances, expected)


def test_surface_distances_between_separate_pieces_are_infinite():
    vertices = torch.rand(6, 3)
    distances = surface_distances(vertices, torch.tensor([[0, 1, 2], [3, 4, 5]]), torch.tensor([4]))
    assert distances.isinf().tolist() == [[True, True, True, False, False, False]]
    assert distances[0, 4] == 0
