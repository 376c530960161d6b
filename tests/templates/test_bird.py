import os
from pathlib import Path

import pytest
import torch
import trimesh
from templates.checks import check_template_contract, edge_crossings

from kpose.data import CUBDataset, read_mean_parts
from kpose.geometry import mask_iou, vertex_normals
from kpose.geometry._mesh import edges
from kpose.rendering import HardRenderer
from kpose.structures import Camera
from kpose.templates import bird, template_mesh

ROOT = os.environ.get("KPOSE_CUB_ROOT")
needs_cub = pytest.mark.skipif(ROOT is None, reason="KPOSE_CUB_ROOT is not set to a folder in CUB's layout")
CUB_PARTS = (
    "back, beak, belly, breast, crown, forehead, left eye, left leg, left wing, nape, right eye, right leg, "
    "right wing, tail, throat"
)


def test_contract():
    check_template_contract(bird())


def test_size():
    template = bird()
    assert 500 <= len(template.vertices) <= 1300
    low, high = template.vertices.amin(0), template.vertices.amax(0)
    assert torch.allclose(high - low, torch.tensor([0.84, 2.12, 0.81]), atol=0.1)
    assert low[0] == -high[0]


def test_the_same_on_each_call_and_the_callers_own():
    first = bird()
    first.vertices.zero_()
    second, third = bird(), bird()
    assert all(torch.equal(a, b) for a, b in zip(second, third, strict=True) if isinstance(a, torch.Tensor))
    assert second.vertices.abs().sum() > 0


def test_exact_symmetry_of_vertices_and_faces():
    template = bird()
    assert torch.equal(template.vertices[template.mirror], template.vertices * torch.tensor([-1.0, 1.0, 1.0]))
    mirrored = template.mirror[template.faces].flip(-1)
    faces = {tuple(sorted(face)) for face in template.faces.tolist()}
    assert faces == {tuple(sorted(face)) for face in mirrored.tolist()}


def test_no_face_spans_the_seam_and_texture_is_not_mirrored():
    template = bird()
    corners = template.uv[template.uv_faces]
    assert (corners.amax(1) - corners.amin(1) < 0.5).all()
    # Seen from outside, u runs right and v down, so that every face turns the same way in the texture.
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    assert (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0] < 0).all()
    # Each row of texture coordinates belongs to one vertex.
    pairs = torch.stack((template.faces.flatten(), template.uv_faces.flatten()), -1).unique(dim=0)
    assert torch.equal(pairs[:, 1].sort().values, torch.arange(len(template.uv)))


def test_triangles_are_good_and_do_not_cross():
    template = bird()
    mesh = trimesh.Trimesh(template.vertices.numpy(), template.faces.numpy(), process=False)
    assert mesh.face_angles.min(1).mean() > torch.pi / 180 * 40
    assert mesh.face_angles.min() > torch.pi / 180 * 10
    assert edge_crossings(template.vertices.double(), template.faces, edges(template.faces)) == 0


def test_normals_point_outwards():
    template = bird()
    normals = vertex_normals(template.vertices, template.faces)
    parts = dict(zip(template.part_names, template.part_vertices, strict=True))
    for name, direction in {
        "back": (0.0, 0.0, 1.0),
        "belly": (0.0, 0.0, -1.0),
        "left wing": (1.0, 0.0, 0.0),
        "right wing": (-1.0, 0.0, 0.0),
    }.items():
        assert normals[parts[name]] @ torch.tensor(direction) > 0.7


def test_parts():
    template = bird()
    assert ", ".join(template.part_names) == CUB_PARTS
    assert template.part_vertices.unique().numel() == 15
    place = dict(zip(template.part_names, template.vertices[template.part_vertices], strict=True))
    middle = [name for name in template.part_names if name.split()[0] not in ("left", "right")]
    assert all(place[name][0] == 0 for name in middle)
    assert place["beak"][1] < place["crown"][1] < place["nape"][1] < place["back"][1] < place["tail"][1]
    assert place["back"][2] > 0 > place["belly"][2]


@needs_cub
def test_parts_near_the_mean_parts():
    template = bird()
    targets = read_mean_parts(Path(ROOT) / "sfm" / "mean_parts.csv")
    residual = (template.vertices[template.part_vertices] - targets).norm(dim=-1)
    assert residual.mean() < 0.1
    assert residual.max() < 0.2


@needs_cub
@pytest.mark.parametrize("split", ["train", "val"])
def test_silhouettes_under_the_cameras_of_structure_from_motion(split):
    dataset = CUBDataset(Path(ROOT), split, image_size=64, padding=0.25, cache=False)
    items = [dataset[k] for k in range(0, len(dataset), len(dataset) // 80)]
    camera = Camera(*(torch.stack(entries) for entries in zip(*(item["camera"] for item in items), strict=True)))
    mask = HardRenderer().silhouette(template_mesh(bird()), camera, 64)
    overlap = mask_iou(mask, torch.stack([item["mask"] for item in items]), soft=False)
    assert overlap.mean() > 0.6  # U-CMR's own template: 0.535
