"""Templates from mesh files of any quality."""

from pathlib import Path

from kpose.structures import Template
from kpose.templates.wrap import wrap_solid

__all__ = ["template_from_mesh"]


def template_from_mesh(
    path: str | Path,
    *,
    front: str = "-y",
    up: str = "+z",
    tolerance: float = 0.1,
    max_hole: float = 0.1,
    num_vertices: int = 642,
    size: float = 2.0,
    cells: int = 96,
) -> tuple[Template, float]:
    """Make a template from a mesh file of any quality; needs ``kpose[template]``.

    Everything that closed surfaces enclose counts, whichever way their faces turn, so that parts may overlap or lie
    inside each other. Small holes and handles are filled. The largest piece is kept, moved so that it and its
    mirror image about ``x = 0`` overlap most, and made symmetric by averaging the two. What was repaired is logged.

    Args:
        path: GLB, OBJ, OFF, PLY or STL file.
        front: Axis of the file where the object's front points: ``-y``, ``+x``, ...
        up: Axis of the file that points up.
        tolerance: Largest asymmetry: the share of the volume of object and mirror image together that only one of
            the two fills; 1 accepts anything.
        max_hole: Longest side of a hole that is filled, as a share of the longest side of the mesh.
        num_vertices: Number of vertices, from 50 to 20,000; it may be one less.
        size: Longest side of the template's bounding box, in object units, positive.
        cells: Voxels along the longest side; parts that are thinner than two may get lost.

    Returns:
        Template without parts, float32: closed, of genus 0, symmetric, its bounding box about the origin; no two
        points of its surface share texture. And the asymmetry that was averaged away, in [0, 1].

    Raises:
        FileNotFoundError: If there is no such file.
        ModuleNotFoundError: If SciPy or scikit-image is not installed.
        ValueError: If the file cannot be read, the axes do not fit, the mesh has large holes, no inside or is not
            symmetric, or the number of vertices is out of range or too small for the shape.

    Example:
        A mesh file whose front points to +z and whose up is +y::

            template, asymmetry = template_from_mesh("sedan.glb", front="+z", up="+y")
            save_template(template, "car.safetensors")
    """
    try:
        from kpose.templates.voxels import mesh_solid
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"template_from_mesh needs {error.name}; it is not installed. Run `pip install 'kpose[template]'`.",
            name=error.name,
        ) from error
    solid, asymmetry = mesh_solid(
        Path(path), front=front, up=up, tolerance=tolerance, max_hole=max_hole, cells=cells
    )
    return wrap_solid(solid, num_vertices, size), asymmetry
