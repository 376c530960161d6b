"""Structure from motion: mean part positions and cameras from part annotations alone.

Weak-perspective factorization with missing parts. The shape is found from all images together with their mirror
images, which makes it symmetric; each image's camera is then the best of many starts::

    python -m kpose.data.sfm ROOT --out ROOT/sfm/cameras.csv
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kpose.data._transforms import mirror_names
from kpose.data.cub import read_cub, write_cameras, write_mean_parts
from kpose.data.part_cameras import candidates, normalize_parts, part_kernel, part_residuals, solve_part_cameras
from kpose.geometry import project
from kpose.pnp import refine_camera
from kpose.structures import Camera

__all__ = ["StructureFromMotion", "factorize", "main", "structure_from_motion"]

# Parts that fix the object frame: +y runs from the crown to the tail, +z from belly to back.
_FRONT, _REAR, _LOW, _HIGH = "crown", "tail", "belly", "back"
_STARTS = 3  # random ones, always the same; the one with the least residual is taken
_ROUNDS = 60  # of each start
_log = logging.getLogger(__name__)


class StructureFromMotion(NamedTuple):
    """Mean shape of the parts and the camera of every image."""

    shape: Float[Tensor, "P 3"]
    """Part positions in the object frame, symmetric about ``x = 0``, the farthest two of them 2 apart."""
    camera: Camera
    """Cameras in the unit of the annotations, not a number where an image has too few visible parts."""
    error: Float[Tensor, "N"]
    """Root mean square distance of the visible parts from their projections, in the unit of the annotations."""


def structure_from_motion(
    points: Float[Tensor, "N P 2"],
    visible: Bool[Tensor, "N P"],
    part_names: Sequence[str],
    *,
    sizes: Float[Tensor, "N"],
    learn: Bool[Tensor, "N"] | None = None,
    min_parts: int = 6,
    progress: bool = False,
) -> StructureFromMotion:
    """Find the mean shape of the parts and the camera of every image.

    Args:
        points: Annotated parts, in pixels (y down); entries that are not visible are not read.
        visible: Which parts are annotated as visible. Left and right parts that are not tell which side is seen.
        part_names: Names of the parts: those of CUB, or others with ``left``/``right`` partners and the four that
            fix the frame (crown, tail, belly, back).
        sizes: Size of each object (the longer side of its box), in pixels.
        learn: Images from which the shape is found, all when not given.
        min_parts: Images with fewer visible parts get no camera and teach nothing.
        progress: Whether to show a progress bar.

    Raises:
        ValueError: If too few images have enough visible parts, or a part is missing.

    Source:
        Marques & Costeira, Estimating 3D Shape from Degenerate Sequences with Missing Data, CVIU 2009 (model);
        Kanazawa et al., Learning Category-Specific Mesh Reconstruction, ECCV 2018 (mirror images, frame, unit).
    """
    enough = visible.sum(1) >= min_parts
    teachers = enough if learn is None else enough & learn
    shape = factorize(points[teachers], visible[teachers], part_names, sizes=sizes[teachers])
    found = solve_part_cameras(
        points[enough], visible[enough], shape, part_names, sizes=sizes[enough], progress=progress
    )
    nothing = points.new_full((len(points),), torch.nan)
    camera = Camera(nothing.clone(), nothing[:, None].repeat(1, 2), nothing[:, None, None].repeat(1, 3, 3))
    for whole, part in zip(camera, found, strict=True):
        whole[enough] = part
    projected = project(shape.expand(len(points), -1, -1), camera)
    squared = torch.where(visible, (projected - points).square().sum(-1), 0.0)
    error = (squared.sum(1) / visible.sum(1).clamp_min(1)).sqrt()
    return StructureFromMotion(shape, camera, torch.where(enough, error, torch.nan))


def factorize(
    points: Float[Tensor, "N P 2"],
    visible: Bool[Tensor, "N P"],
    part_names: Sequence[str],
    *,
    sizes: Float[Tensor, "N"],
) -> Float[Tensor, "P 3"]:
    """Find the mean shape of parts that are seen in many images, each with its own camera.

    Affine cameras and shape are found in turn by least squares; the affine frame is made metric by the demand that
    the two rows of every camera be orthogonal and equally long; then weak-perspective cameras and a symmetric shape
    are found in turn. Residuals of the last step are measured on the object, not in the image: there, a shape that
    deforms between images would be flattened.

    Arguments are those of `structure_from_motion`. The shape is centered, symmetric about ``x = 0``, its farthest
    two parts 2 apart, left at ``x > 0``, the crown in front (−y) of the tail at the same height, the back above
    (+z) the belly.
    """
    mirror = list(mirror_names(part_names))
    if missing := {_FRONT, _REAR, _LOW, _HIGH} - set(part_names):
        raise ValueError(f"factorize needs the parts {sorted(missing)} to fix the frame. Name them.")
    seen = visible.sum(0) + visible[:, mirror].sum(0)
    if len(points) < 10 or seen.min() < 4:
        raise ValueError(
            f"factorize needs ten images, and each part in four of them; got {len(points)} images and a part "
            f"that is seen {int(seen.min())} times. Annotate more."
        )
    image, weight, _ = normalize_parts(points, visible, sizes)
    image = torch.cat((image, image[:, mirror] * image.new_tensor([-1.0, 1.0])))
    weight = torch.cat((weight, weight[:, mirror]))
    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(_STARTS, len(part_names), 3, generator=generator, dtype=torch.float64).to(image)
    found = [_alternate(image, weight, start) for start in starts]
    shape, affine, _ = min(found, key=lambda one: one[2])
    metric = shape @ torch.linalg.inv(_upgrade(affine)).mT
    shape = _canonical(metric, part_names, mirror)
    images = len(points)
    return _polish(image[:images], weight[:images], shape, part_names, mirror).to(points.dtype)


def _alternate(image: Tensor, weight: Tensor, shape: Tensor) -> tuple[Tensor, Tensor, float]:
    """Fit affine cameras and shape in turn; return shape (orthonormal columns), cameras and residual."""
    ridge = 1e-3 * torch.eye(4, dtype=image.dtype, device=image.device)
    ridge[3, 3] = 0  # the translation is free
    for step in range(_ROUNDS + 1):
        shape = torch.linalg.svd(shape - shape.mean(0), full_matrices=False)[0]
        plane = torch.nn.functional.pad(shape, (0, 1), value=1.0)
        normal = torch.einsum("np,pi,pj->nij", weight, plane, plane) + ridge
        affine = torch.linalg.solve(normal, torch.einsum("np,pi,npc->nic", weight, plane, image)).mT
        if step < _ROUNDS:
            centered = image - affine[:, None, :, 3]
            rows = affine[..., :3]
            shape = torch.linalg.solve(
                torch.einsum("np,nci,ncj->pij", weight, rows, rows),
                torch.einsum("np,nci,npc->pi", weight, rows, centered),
            )
    residual = (plane @ affine.mT - image).square().sum(-1) * weight
    return shape, affine[..., :3], (residual.sum() / weight.sum()).item()


def _upgrade(affine: Tensor, rounds: int = 30, width: float = 0.2) -> Tensor:
    """Find ``H`` that makes the rows of every ``affine @ H`` orthogonal and equally long, robustly.

    The residuals are shares of the rows' squared length in the frame of the last round, so that the affine frame
    the factorization happened to find does not matter; the lengths average to one.
    """
    first, second = affine.unbind(1)
    i, j = torch.triu_indices(3, 3)

    def form(a: Tensor, b: Tensor) -> Tensor:
        return a[:, i] * b[:, j] + a[:, j] * b[:, i]

    unequal, skew, length = form(first, first) - form(second, second), 2 * form(first, second), form(first, first)
    length = length + form(second, second)
    norm, weight = affine.square().sum((1, 2)), torch.ones_like(affine[:, 0, 0])
    root = torch.eye(3, dtype=affine.dtype, device=affine.device)
    for _ in range(rounds):
        share = weight / norm
        system = torch.cat((unequal * share[:, None], skew * share[:, None]))
        mean = (length * (weight * share)[:, None]).mean(0)
        solution = torch.linalg.solve(system.mT @ system, mean)
        gram = torch.zeros_like(root)
        gram[i, j] += solution / (mean @ solution)
        gram[j, i] = gram[i, j] * (1 + (i == j))
        values, vectors = torch.linalg.eigh(gram)
        # Noise may push the eigenvalue of the least known direction below zero.
        root = vectors * values.clamp_min(1e-2 * values[-1].item()).sqrt()
        rows = affine @ root
        norm = rows.square().sum((1, 2))
        lengths = rows.square().sum(-1)
        off = torch.hypot(lengths[:, 0] - lengths[:, 1], 2 * (rows[:, 0] * rows[:, 1]).sum(1))
        weight = (1 + (off / (width * norm)).square()).rsqrt()
    return root


def _canonical(shape: Tensor, part_names: Sequence[str], mirror: list[int]) -> Tensor:
    """Turn, mirror and scale a shape into the object frame; factorization leaves all three open."""
    names = list(part_names)
    across = shape - shape[mirror]
    x = torch.linalg.svd(across, full_matrices=False)[2][0]
    left = [k for k, name in enumerate(names) if name.split()[0] == "left"]
    x = x * (across[left] @ x).sum().sign()
    y = shape[names.index(_REAR)] - shape[names.index(_FRONT)]
    y = y - (y @ x) * x
    y = y / y.norm()
    z = torch.linalg.cross(x, y)
    # The sign of depth: both signs explain the annotations, one of them puts the back below the belly.
    z = z * ((shape[names.index(_HIGH)] - shape[names.index(_LOW)]) @ z).sign()
    shape = shape @ torch.stack((x, y, z), 1)
    shape = (shape + shape[mirror] * shape.new_tensor([-1.0, 1.0, 1.0])) / 2
    shape = shape - shape.mean(0)
    return shape * (2 / torch.cdist(shape, shape).max())


def _polish(image: Tensor, weight: Tensor, shape: Tensor, part_names: Sequence[str], mirror: list[int]) -> Tensor:
    """Find weak-perspective cameras and a symmetric shape in turn."""
    cost, cameras = candidates(image, weight, shape)
    camera = cameras.at((torch.arange(len(image), device=image.device)[:, None], cost.argmin(1, keepdim=True)))
    kernel = part_kernel(image)
    plane = shape.new_tensor([-1.0, 1.0, 1.0])
    for _ in range(20):
        camera = refine_camera(image, shape.expand(len(image), -1, -1), weight, camera, kernel, steps=4)
        inlier = kernel.probability(part_residuals(image, shape, camera))[:, 0]
        # On the object the image is divided by the scale: the rows of the camera are orthonormal.
        rows, share = camera.rotation[:, 0, :2], weight * inlier
        places = (image - camera.translation) / camera.scale[..., None]
        normal = torch.einsum("np,nci,ncj->pij", share, rows, rows)
        target = torch.einsum("np,nci,npc->pi", share, rows, places)
        # A part and the mirror image of its partner are one unknown.
        normal, target = normal + normal[mirror] * plane[:, None] * plane, target + target[mirror] * plane
        shape = _canonical(torch.linalg.solve(normal, target), part_names, mirror)
    return shape


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute the cameras of a folder in CUB's layout and write them, with the mean parts beside them."""
    parser = argparse.ArgumentParser(
        "python -m kpose.data.sfm", description="Compute cameras from annotated parts."
    )
    parser.add_argument("root", type=Path, help="folder in CUB's layout")
    parser.add_argument("--out", type=Path, help="cameras file; ROOT/sfm/cameras.csv if not given")
    parser.add_argument("--min-parts", type=int, default=6, help="images with fewer visible parts get no camera")
    options = parser.parse_args(arguments)
    out = options.root / "sfm" / "cameras.csv" if options.out is None else options.out
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        notes = read_cub(options.root)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    result = structure_from_motion(
        notes.parts,
        notes.parts_visible,
        notes.part_names,
        sizes=(notes.boxes[:, 2:] - notes.boxes[:, :2]).amax(1),
        learn=torch.tensor([split == "train" for split in notes.splits]),
        min_parts=options.min_parts,
        progress=True,
    )
    keep = [row for row, split in enumerate(notes.splits) if split]
    camera = result.camera.at(keep)
    write_cameras(out, [notes.image_ids[row] for row in keep], [notes.splits[row] for row in keep], camera)
    write_mean_parts(out.with_name("mean_parts.csv"), result.shape)
    solved = int(camera.scale.isfinite().sum())
    _log.info("Wrote %d cameras to %s; %d images have too few visible parts.", solved, out, len(keep) - solved)


if __name__ == "__main__":
    main()
