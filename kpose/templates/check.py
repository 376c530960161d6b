"""What every template must be."""

import torch
from jaxtyping import Int
from torch import Tensor

from kpose.geometry import edges, is_closed, volume
from kpose.structures import Template

__all__ = ["check_template", "label_pieces"]


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
    _check_form(template)
    vertices, faces = template.vertices, template.faces
    count = len(vertices)
    _require(bool(vertices.isfinite().all()), "finite vertices", "NaN or infinity", "Repair the mesh")
    _require_rows(faces, count, "faces", "vertices")
    _require(
        is_closed(faces),
        "a closed mesh whose faces all turn the same way",
        "one with a border, doubled edges or mixed orientation",
        "Close and orient it (for example trimesh.repair)",
    )
    used = torch.bincount(faces.flatten(), minlength=count) > 0
    _require(bool(used.all()), "vertices that faces use", f"{int((~used).sum())} loose ones", "Remove them")
    pieces = len(set(label_pieces(edges(faces), count).tolist()))
    _require(pieces == 1, "a mesh in one piece", f"{pieces} pieces", "Join them or keep one")
    euler = count - len(edges(faces)) + len(faces)
    _require(euler == 2, "a mesh of genus 0 (like a sphere)", f"genus {(2 - euler) // 2}", "Close its handles")
    inside = float(volume(vertices, faces))
    _require(inside > 0, "faces counter-clockwise seen from outside", f"a volume of {inside:.3g}", "Flip them")
    _check_symmetry(template)
    uv_range = bool(((template.uv >= 0) & (template.uv <= 1)).all())
    _require(uv_range, "texture coordinates in [0, 1]", "others", "Rescale them")
    _require_rows(template.uv_faces, len(template.uv), "uv_faces", "texture coordinates")
    _require(
        len(template.uv_faces) == len(faces),
        "texture coordinates for each face",
        f"{len(template.uv_faces)} rows for {len(faces)} faces",
        "Give one row for each",
    )
    _require(
        len(template.part_names) == len(template.part_vertices),
        "one vertex for each part",
        f"{len(template.part_vertices)} for {len(template.part_names)} parts",
        "Give one for each",
    )
    _require_rows(template.part_vertices, count, "part_vertices", "vertices")


def _check_form(template: Template) -> None:
    for name, columns in (
        ("vertices", 3),
        ("faces", 3),
        ("uv", 2),
        ("uv_faces", 3),
        ("mirror", 0),
        ("part_vertices", 0),
    ):
        tensor: Tensor = getattr(template, name)
        number = tensor.is_floating_point() if name in ("vertices", "uv") else tensor.dtype == torch.int64
        form = tensor.ndim == 1 if columns == 0 else tensor.ndim == 2 and tensor.shape[1] == columns
        kind = "floating" if name in ("vertices", "uv") else "int64"
        needs = f"{name} as {kind} numbers, " + (f"{columns} in a row" if columns else "one in a row")
        _require(number and form, needs, f"{tensor.dtype} {tuple(tensor.shape)}", "Check the file")


def _check_symmetry(template: Template) -> None:
    mirror, count = template.mirror, len(template.vertices)
    _require_rows(mirror, count, "mirror", "vertices")
    involution = len(mirror) == count and torch.equal(mirror[mirror], torch.arange(count, device=mirror.device))
    _require(involution, "mirror partners that belong to each other", "others", "Use geometry.mesh.mirror_pairs")
    image = template.vertices[mirror] * template.vertices.new_tensor([-1.0, 1.0, 1.0])
    _require(
        torch.equal(image, template.vertices),
        "vertices exactly symmetric about x = 0",
        f"a difference of up to {float((image - template.vertices).abs().max()):.3g}",
        "Average each vertex with its partner",
    )


def _require_rows(index: Tensor, count: int, name: str, of: str) -> None:
    good = bool(((index >= 0) & (index < count)).all())
    _require(good, f"{name} that point at {of} (0 to {count - 1})", "an index out of range", "Check the file")


def _require(good: bool, needs: str, got: str, hint: str) -> None:
    if not good:
        raise ValueError(f"Template needs {needs}; got {got}. {hint}.")


def label_pieces(pairs: Int[Tensor, "E 2"], count: int) -> Int[Tensor, "count"]:
    """Find the connected pieces of a mesh: each vertex takes the smallest index it can reach.

    Args:
        pairs: Edges.
        count: Number of vertices.

    Returns:
        For each vertex, the smallest vertex of its piece.

    Example:
        >>> label_pieces(torch.tensor([[0, 2], [1, 3]]), 5).tolist()
        [0, 1, 0, 1, 4]
    """
    label = torch.arange(count, device=pairs.device)
    while True:
        least = label[pairs].amin(-1)
        fresh = label.scatter_reduce(0, pairs.flatten(), least.repeat_interleave(2), "amin")
        fresh = fresh[fresh]
        if torch.equal(fresh, label):
            return label
        label = fresh
