import pytest
import torch

from kpose.structures import Camera, Crop, Features, Mesh


def cameras(*batch):
    return Camera(torch.rand(*batch), torch.rand(*batch, 2), torch.rand(*batch, 3, 3))


def meshes(count):
    return Mesh(
        torch.rand(count, 5, 3),
        torch.tensor([[0, 1, 2], [2, 3, 4]]),
        torch.rand(6, 2),
        torch.tensor([[0, 1, 2], [3, 4, 5]]),
        texture=torch.rand(count, 3, 4, 8),
    )


@pytest.mark.parametrize(
    "rows", [1, slice(2), [2, 0], torch.tensor([True, False, True]), (torch.tensor([0, 2]), None)]
)
def test_at_indexes_every_batched_field(rows):
    camera, mesh, features = cameras(3), meshes(3), Features((torch.rand(3, 4, 2, 2), torch.rand(3, 8, 1, 1)))
    crop = Crop(torch.rand(3), torch.rand(3, 2))
    for found, wanted in zip((*camera.at(rows), *crop.at(rows)), (*camera, *crop), strict=True):
        assert torch.equal(found, wanted[rows])
    assert all(torch.equal(a, b[rows]) for a, b in zip(features.at(rows).maps, features.maps, strict=True))
    part = mesh.at(rows)
    assert torch.equal(part.vertices, mesh.vertices[rows])
    assert torch.equal(part.texture, mesh.texture[rows])
    assert part.vertex_colors is None
    assert all(a is b for a, b in zip(part[1:4], mesh[1:4], strict=True))


def test_at_takes_several_leading_dimensions():
    camera = cameras(3, 4)
    best = camera.at((torch.arange(3), torch.tensor([3, 0, 1])))
    assert torch.equal(best.rotation[0], camera.rotation[0, 3])
    assert best.scale.shape == (3,)


def test_detach_cuts_gradients():
    camera, mesh = cameras(2).map(lambda part: part.requires_grad_()), meshes(2)
    mesh = mesh._replace(vertices=mesh.vertices.requires_grad_())
    assert not any(part.requires_grad for part in camera.detach())
    assert not mesh.detach().vertices.requires_grad
    assert not Features((camera.scale,)).detach().maps[0].requires_grad


def test_to_changes_dtypes_of_floating_point_fields_only():
    mesh = meshes(2).to(torch.float64)
    assert {part.dtype for part in (mesh.vertices, mesh.uv, mesh.texture)} == {torch.float64}
    assert {part.dtype for part in (mesh.faces, mesh.uv_faces)} == {torch.int64}
    assert all(part.dtype == torch.float64 for part in cameras(2).to(torch.float64))
    assert all(part.device.type == "meta" for part in meshes(2).to("meta")[:5])


def test_where_chooses_whole_cameras():
    first, second = cameras(2, 2), cameras(2, 2)
    chosen = first.where(torch.tensor([[True, False], [False, True]]), second)
    for mixed, one, other in zip(chosen, first, second, strict=True):
        assert torch.equal(mixed[0, 0], one[0, 0])
        assert torch.equal(mixed[0, 1], other[0, 1])
