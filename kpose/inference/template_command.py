"""``kpose template``: a mean shape from a mesh file, or from a few measures."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from kpose.files import write_file
from kpose.geometry import viewpoint_to_matrix
from kpose.messages import one_line
from kpose.structures import Template
from kpose.templates import Limb, build_template, save_template, template_from_mesh, template_mesh
from kpose.visualization import mesh_views, to_pillow

__all__ = ["main"]

VIEWS = ((0.0, 0.0), (50.0, 15.0), (90.0, 0.0), (180.0, 0.0), (90.0, 80.0), (50.0, -30.0))


def main(args: Sequence[str] | None = None) -> int:
    """Make a template and write it to a file.

    Args:
        args: Arguments after ``kpose template``; those of the process when None.

    Returns:
        0, or 1 if no template can be made; one line says why.

    Raises:
        SystemExit: If the arguments are wrong (code 2), or ask for help.
    """
    parser = _parser()
    options = parser.parse_args(args)
    if (options.mesh is None) == (options.body is None):
        parser.error("give a mesh file or --body, one of the two")
    if options.limb and options.body is None:
        parser.error("--limb belongs to --body")
    if any(len(limb) not in (5, 8) for limb in options.limb):
        parser.error("--limb takes X Y Z LENGTH RADIUS, and DX DY DZ if it does not point down")
    logging.basicConfig(format="%(message)s")
    try:
        for path in filter(None, (options.out, options.picture)):
            if path.exists() and not options.overwrite:
                raise FileExistsError(f"{path} exists. Name another file, or give --overwrite.")
        template, origin = _template(options)
        save_template(template, options.out)
        if options.picture is not None:
            _draw(template, options.picture)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        _say(one_line(error))
        return 1
    extent = template.vertices.amax(0) - template.vertices.amin(0)
    width, length, height = extent.tolist()
    _say(
        f"{options.out}: {len(template.vertices)} vertices, {len(template.faces)} faces, {length:.2f} long, "
        f"{width:.2f} wide, {height:.2f} high; {origin}."
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kpose template",
        description="Make the mean shape of a category from a mesh file or from the measures of a body with limbs. "
        "It is closed, without handles, exactly symmetric about x = 0, with texture coordinates; its longest side "
        "is 2, -y is the front, +z up, +x the object's left.",
        usage="kpose template (MESH | --body LENGTH WIDTH HEIGHT [--limb ...]) --out FILE [options]",
    )
    parser.add_argument("mesh", nargs="?", type=Path, metavar="MESH", help="GLB, OBJ, OFF, PLY or STL file")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="template, ends in .safetensors")
    parser.add_argument("--vertices", type=int, default=642, metavar="N", help="vertices (default: 642)")
    parser.add_argument("--size", type=float, default=2.0, metavar="S", help="longest side (default: 2)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="picture of the template from six sides")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    mesh = parser.add_argument_group("from a mesh file")
    mesh.add_argument(
        "--front", default="-y", metavar="AXIS", help="axis that points to the front, as in --front=+x"
    )
    mesh.add_argument("--up", default="+z", metavar="AXIS", help="axis that points up, as in --up=+y")
    mesh.add_argument(
        "--tolerance", type=float, default=0.1, metavar="SHARE",
        help="largest asymmetry: share of the volume of shape and mirror image that only one fills (default: 0.1)",
    )  # fmt: skip
    mesh.add_argument("--symmetrize", action="store_true", help="accept any asymmetry")
    mesh.add_argument(
        "--max-hole", type=float, default=0.1, metavar="SHARE",
        help="longest hole that is filled, as a share of the mesh (default: 0.1)",
    )  # fmt: skip
    body = parser.add_argument_group("from measures")
    body.add_argument("--body", nargs=3, type=float, metavar=("LENGTH", "WIDTH", "HEIGHT"), help="of an ellipsoid")
    body.add_argument(
        "--limb", nargs="+", type=float, action="append", default=[], metavar="N",
        help="X Y Z LENGTH RADIUS [DX DY DZ]: rod from X (left), Y (behind), Z (above) of the body's middle, and "
        "its mirror image; points down if not said; may be given several times",
    )  # fmt: skip
    body.add_argument("--exponent", type=float, default=2.0, metavar="P", help="2: ellipsoid; 4: rounded box")
    return parser


def _template(options: argparse.Namespace) -> tuple[Template, str]:
    if options.body is not None:
        limbs = [_limb(*values) for values in options.limb]
        length, width, height = options.body
        template = build_template(
            length,
            width,
            height,
            limbs,
            exponent=options.exponent,
            num_vertices=options.vertices,
            size=options.size,
        )
        return template, "made from measures"
    tolerance = 1.0 if options.symmetrize else options.tolerance
    template, asymmetry = template_from_mesh(
        options.mesh,
        front=options.front,
        up=options.up,
        tolerance=tolerance,
        max_hole=options.max_hole,
        num_vertices=options.vertices,
        size=options.size,
    )
    return template, f"{asymmetry:.1%} of the mesh was not symmetric"


def _limb(x: float, y: float, z: float, length: float, radius: float, *direction: float) -> Limb:
    if not direction:
        return Limb(x, y, z, length, radius)
    left, rear, up = direction
    return Limb(x, y, z, length, radius, (left, rear, up))


def _draw(template: Template, path: Path) -> None:
    azimuth, elevation = torch.tensor(VIEWS).deg2rad().unbind(-1)
    rotations = viewpoint_to_matrix(azimuth, elevation, torch.zeros_like(azimuth))
    views = mesh_views(template_mesh(template), 256, rotations=rotations)
    picture = to_pillow(torch.cat((*views,), -1))
    write_file(path, lambda fresh: picture.save(fresh, "PNG"))


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
