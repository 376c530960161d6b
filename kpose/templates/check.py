"""What every template must be."""

from collections.abc import Iterator

import torch
from torch import Tensor

from kpose.geometry._mesh import edges, is_closed, volume
from kpose.structures import Template

__all__ = ["check_template"]

COLUMNS = {"vertices": 3, "faces": 3, "uv": 2, "uv_faces": 3, "mirror": 0, "part_vertices": 0}


def check_template(template: Template) -> None:
    """Check that a template is what the rest of kpose takes for granted.

    Args:
        template: Template to check.

    Raises:
        ValueError: If the mesh is not closed, of genus 0, in one piece, wound counter-clockwise seen from outside
            and exactly symmetric about ``x = 0``, or if texture coordinates or parts do not fit it.

    Example:
        >>> from kpose.templates import bird
        >>> check_template(bird())
    """
    for problem in _problems(template):
        raise ValueError(f"Template needs {problem}")


def _problems(template: Template) -> Iterator[str]:
    """What is wrong, the first thing first; what comes later takes for granted that the first things are right."""
    yield from _problems_of_form(template)
    vertices, faces, count = template.vertices, template.faces, len(template.vertices)
    if not vertices.isfinite().all():
        yield "finite vertices; got NaN or infinity. Repair the mesh."
    yield from _problems_of_index(faces, count, "faces", "vertices")
    if not is_closed(faces):
        yield (
            "a closed mesh whose faces all turn the same way; got one with a border, doubled edges or mixed "
            "orientation. Close and orient it (for example trimesh.repair)."
        )
    if loose := int((torch.bincount(faces.flatten(), minlength=count) == 0).sum()):
        yield f"vertices that faces use; got {loose} loose ones. Remove them."
    pairs = edges(faces)
    if (pieces := _count_pieces(pairs, count)) != 1:
        yield f"a mesh in one piece; got {pieces} pieces. Join them or keep one."
    if (euler := count - len(pairs) + len(faces)) != 2:
        yield f"a mesh of genus 0 (like a sphere); got genus {(2 - euler) // 2}. Close its handles."
    if (inside := float(volume(vertices, faces))) <= 0:
        yield f"faces counter-clockwise seen from outside; got a volume of {inside:.3g}. Flip them."
    mirror = template.mirror
    yield from _problems_of_index(mirror, count, "mirror", "vertices")
    if len(mirror) != count or not torch.equal(mirror[mirror], torch.arange(count, device=mirror.device)):
        yield "mirror partners that belong to each other; got others. Use kpose.geometry.mirror_pairs."
    image = vertices[mirror] * vertices.new_tensor([-1.0, 1.0, 1.0])
    if not torch.equal(image, vertices):
        yield (
            "vertices exactly symmetric about x = 0; got a difference of up to "
            f"{float((image - vertices).abs().max()):.3g}. Average each vertex with its partner."
        )
    if not ((template.uv >= 0) & (template.uv <= 1)).all():
        yield "texture coordinates in [0, 1]; got others. Rescale them."
    yield from _problems_of_index(template.uv_faces, len(template.uv), "uv_faces", "texture coordinates")
    if len(template.uv_faces) != len(faces):
        yield f"texture coordinates for each face; got {len(template.uv_faces)} rows for {len(faces)} faces."
    if len(template.part_names) != len(template.part_vertices):
        yield f"one vertex for each part; got {len(template.part_vertices)} for {len(template.part_names)} parts."
    yield from _problems_of_index(template.part_vertices, count, "part_vertices", "vertices")


def _problems_of_form(template: Template) -> Iterator[str]:
    for name, columns in COLUMNS.items():
        tensor: Tensor = getattr(template, name)
        floating = name in ("vertices", "uv")
        is_number = tensor.is_floating_point() if floating else tensor.dtype == torch.int64
        if not is_number or (tensor.shape[1:] != (columns,) if columns else tensor.ndim != 1):
            kind, row = "floating" if floating else "int64", columns or "one"
            yield f"{name} as {kind} numbers, {row} in a row; got {tensor.dtype} {tuple(tensor.shape)}."


def _problems_of_index(index: Tensor, count: int, name: str, of: str) -> Iterator[str]:
    if ((index < 0) | (index >= count)).any():
        yield f"{name} that point at {of} (0 to {count - 1}); got an index out of range."


def _count_pieces(pairs: Tensor, count: int) -> int:
    """Connected pieces: each vertex takes the smallest index that it can reach. SciPy's need not be installed."""
    label = torch.arange(count, device=pairs.device)
    while True:
        reached = label.scatter_reduce(0, pairs.flatten(), label[pairs].amin(-1).repeat_interleave(2), "amin")
        reached = reached[reached]
        if torch.equal(reached, label):
            return len(label.unique())  # type: ignore[no-untyped-call]
        label = reached
