"""``kpose template``: a mean shape from a mesh file, or from a few measures."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kpose._files import existing, write_file
from kpose._limits import MAX_VERTICES, MIN_VERTICES
from kpose.cli.interruption import let_finish
from kpose.cli.parser import ArgumentError, run

if TYPE_CHECKING:
    from kpose.structures import Template

__all__ = ["main"]

VIEWS_DEG = ((0.0, 0.0), (50.0, 15.0), (90.0, 0.0), (180.0, 0.0), (90.0, 80.0), (50.0, -30.0))


def main(args: Sequence[str]) -> int:
    """Run the command."""
    return run(
        template,
        args,
        mesh={"positional": "?", "metavar": "MESH"},
        body={"metavar": ("LENGTH", "WIDTH", "HEIGHT")},
        limb={"metavar": "N"},
    )


def template(
    out: Path,
    mesh: Path | None = None,
    vertices: int = 642,
    size: float = 2.0,
    picture: Path | None = None,
    overwrite: bool = False,
    front: str = "-y",
    up: str = "+z",
    tolerance: float = 0.1,
    symmetrize: bool = False,
    max_hole: float = 0.1,
    body: tuple[float, float, float] | None = None,
    limb: list[list[float]] | None = None,
    exponent: float = 2.0,
) -> int:
    """Make the mean shape of a category from a mesh file or from the measures of a body with limbs.

    It is closed, without handles, exactly symmetric about x = 0, with texture coordinates; its longest side is 2,
    -y is the front, +z up, +x the object's left.

    Args:
        out: template, ends in .safetensors
        mesh: GLB, OBJ, OFF, PLY or STL file
        vertices: number of vertices (default: 642)
        size: longest side (default: 2)
        picture: picture of the template from six sides
        overwrite: replace files that exist
        front: of a mesh: axis that points to the front, as in --front=+x
        up: of a mesh: axis that points up, as in --up=+y
        tolerance: of a mesh: largest asymmetry, the share of the volume of shape and mirror image that only one
            fills (default: 0.1)
        symmetrize: of a mesh: accept any asymmetry
        max_hole: of a mesh: longest hole that is filled, as a share of the mesh (default: 0.1)
        body: measures of an ellipsoid
        limb: of a body: X Y Z LENGTH RADIUS [DX DY DZ], a rod from X (left), Y (behind), Z (above) of the body's
            middle, and its mirror image; it points down if no direction is given; may be given several times
        exponent: of a body: 2 is an ellipsoid, 4 a rounded box
    """
    limbs = limb or []
    if not MIN_VERTICES <= vertices <= MAX_VERTICES:
        raise ArgumentError(None, f"--vertices must be from {MIN_VERTICES} to {MAX_VERTICES}; got {vertices}")
    if size <= 0:
        raise ArgumentError(None, f"--size must be positive; got {size}")
    if (mesh is None) == (body is None):
        raise ArgumentError(None, "give a mesh file or --body, one of the two")
    if limbs and body is None:
        raise ArgumentError(None, "--limb belongs to --body")
    if any(len(numbers) not in (5, 8) for numbers in limbs):
        raise ArgumentError(None, "--limb takes X Y Z LENGTH RADIUS, and DX DY DZ if it does not point down")
    if mesh is not None:
        existing(mesh, "A template", "Check the path.")
    for path in filter(None, (out, picture)):
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists. Name another file, or give --overwrite.")

    from kpose.templates import Limb, build_template, save_template, template_from_mesh

    logging.basicConfig(format="%(message)s")
    let_finish()
    if mesh is None:
        assert body is not None
        rods = [Limb(*numbers[:5], *([tuple(numbers[5:])] if numbers[5:] else [])) for numbers in limbs]  # type: ignore[arg-type]
        made = build_template(*body, rods, exponent=exponent, num_vertices=vertices, size=size)
        origin = "made from measures"
    else:
        made, asymmetry = template_from_mesh(
            mesh,
            front=front,
            up=up,
            tolerance=1.0 if symmetrize else tolerance,
            max_hole=max_hole,
            num_vertices=vertices,
            size=size,
        )
        origin = f"{asymmetry:.1%} of the mesh was not symmetric"
    save_template(made, out)
    if picture is not None:
        _draw(made, picture)
    width, length, height = (made.vertices.amax(0) - made.vertices.amin(0)).tolist()
    sys.stderr.write(
        f"{out}: {len(made.vertices)} vertices, {len(made.faces)} faces, {length:.2f} long, {width:.2f} wide, "
        f"{height:.2f} high; {origin}.\n"
    )
    return 0


def _draw(made: "Template", path: Path) -> None:
    import torch

    from kpose.geometry import viewpoint_to_matrix
    from kpose.templates import template_mesh
    from kpose.visualization import mesh_views, to_pillow

    azimuth, elevation = torch.tensor(VIEWS_DEG).deg2rad().unbind(-1)
    rotations = viewpoint_to_matrix(azimuth, elevation, torch.zeros_like(azimuth))
    views = mesh_views(template_mesh(made), 256, rotations=rotations)
    picture = to_pillow(torch.cat((*views,), -1))
    write_file(path, lambda fresh: picture.save(fresh, "PNG"))
