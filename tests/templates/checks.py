"""The contract that every template fulfils, ours and loaded ones."""

import torch
import trimesh

from kpose.templates.check import check_template


def check_template_contract(template):
    check_template(template)
    mesh = trimesh.Trimesh(template.vertices.numpy(), template.faces.numpy(), process=False)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.euler_number == 2
    assert mesh.volume > 0
    assert len(template.uv_faces) == len(template.faces)
    corners = template.uv[template.uv_faces]
    assert corners.min() >= 0
    assert corners.max() <= 1
    own = torch.arange(len(template.vertices))
    assert torch.equal(template.mirror[template.mirror], own)
    middle = template.mirror == own
    assert (template.vertices[middle, 0] == 0).all()
    assert (template.vertices[~middle, 0] != 0).all()
    for name, vertex in zip(template.part_names, template.part_vertices, strict=True):
        if name.startswith("left "):
            partner = template.part_vertices[template.part_names.index(name.replace("left", "right"))]
            assert template.mirror[vertex] == partner
            assert template.vertices[vertex, 0] > 0


def edge_crossings(vertices, faces, edges):
    """Count edges that pass through a face they share no vertex with."""
    start, end = vertices[edges[:, 0]], vertices[edges[:, 1]]
    corner, first, second = (vertices[faces[:, k]] for k in range(3))
    first, second, along = first - corner, second - corner, (end - start)[:, None]
    normal = torch.linalg.cross(first, second)[None]
    slope = -(along * normal).sum(-1)
    offset = start[:, None] - corner[None]
    turn = torch.linalg.cross(offset, along.expand_as(offset))
    share = (offset * normal).sum(-1) / slope
    u = (second[None] * turn).sum(-1) / slope
    v = -(first[None] * turn).sum(-1) / slope
    inside = (share > 0) & (share < 1) & (u > 0) & (v > 0) & (u + v < 1)
    neighbors = (edges[:, None, :, None] == faces[None, :, None, :]).any(-1).any(-1)
    return int((inside & ~neighbors).sum())
