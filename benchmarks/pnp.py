"""Accuracy and throughput of kpose's PnP beside OpenCV, PoseLib and kornia, and its errors over a grid of settings.

Run ``python benchmarks/pnp.py`` for the comparison (its last line is one JSON object) and
``python benchmarks/pnp.py --grid`` for the Markdown tables of ``docs/pnp.md``.
"""

import argparse
import importlib
import json
import statistics
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kpose.geometry import farthest_point_sampling, geodesic_distance, random_rotation
from kpose.pnp import solve_pnp

AXES = (0.25, 0.9, 0.45)
SCALE = 0.8
# A long virtual focal length makes a pinhole solver read a weak-perspective image; the threshold is in the unit of
# the image whatever the focal length. Both are the best of a sweep: focal 5, 10, 20 and threshold 0.10, 0.15, with
# the noise at 0.05. OpenCV's flag is its default, EPnP and SQPnP are slower or less exact, AP3P is faster and less
# exact (median 4.3 instead of 3.9 degrees for 32 points).
FOCAL = 10.0
THRESHOLD = 0.15


class Scene(NamedTuple):
    """Correspondences of a batch of images, and their ground truth."""

    image: Tensor
    points: Tensor
    weights: Tensor
    rotation: Tensor


def make_scenes(
    count: int,
    poses: int,
    *,
    noise: float,
    outliers: float,
    front: bool = False,
    spread: bool = True,
    seed: int = 0,
) -> Scene:
    """Draw images of an ellipsoid's points under uniformly random rotations.

    Args:
        count: Points on the ellipsoid.
        poses: Images.
        noise: Standard deviation of an image coordinate; the image's corners are at ±1.
        outliers: Share of the usable points that are replaced by uniform ones in the image.
        front: Use only points that face the viewer, about half. A pose that shows fewer than four is drawn again.
        spread: Choose the points by farthest point sampling, as the keypoint head does; else at random.
        seed: Seed.
    """
    generator = torch.Generator().manual_seed(seed)
    axes = torch.tensor(AXES)
    direction = torch.randn(poses, count, 3, generator=generator)
    direction = direction / direction.norm(dim=-1, keepdim=True)
    if spread:
        sets = torch.stack([_spread_directions(count, generator) for _ in range(20)])
        direction = sets[torch.randint(20, (poses,), generator=generator)]
    rotation = random_rotation((poses,), generator=generator)
    usable = torch.ones(poses, count, dtype=torch.bool)
    while front:
        usable = ((direction / axes) @ rotation.mT)[..., 2] < 0
        few = usable.sum(-1) < 4
        if not few.any():
            break
        rotation[few] = random_rotation((int(few.sum()),), generator=generator)
    points = direction * axes
    image = SCALE * (points @ rotation.mT)[..., :2]
    image = image + noise * torch.randn(image.shape, generator=generator)
    # The same share in every image: the first few usable points in a random order.
    order = (torch.rand(poses, count, generator=generator) + 2.0 * ~usable).argsort(-1).argsort(-1)
    bad = order < (outliers * usable.sum(-1, keepdim=True)).round()
    image = torch.where(bad[..., None], 2 * torch.rand(image.shape, generator=generator) - 1, image)
    return Scene(image, points, usable.float(), rotation)


def _spread_directions(count: int, generator: torch.Generator) -> Tensor:
    dense = torch.randn(1000, 3, generator=generator)
    dense = dense / dense.norm(dim=-1, keepdim=True)
    return dense[farthest_point_sampling(dense * torch.tensor(AXES), count, generator=generator)]


def errors_deg(rotation: Tensor, scene: Scene) -> Tensor:
    """Return rotation errors in degrees."""
    return geodesic_distance(rotation.to(scene.rotation), scene.rotation).rad2deg()


# ---- comparison


def kpose_rotations(scene: Scene) -> Tensor:
    """Solve the whole batch at once, with default settings."""
    return solve_pnp(scene.image, scene.points).camera.rotation


def opencv_rotations(cv2: ModuleType, scene: Scene) -> Tensor:
    """Loop over images with ``cv2.solvePnPRansac``; a failure counts as the identity."""
    intrinsics = np.diag([FOCAL, FOCAL, 1.0])
    rotations = []
    for image, points in zip(scene.image.double().numpy(), scene.points.double().numpy(), strict=True):
        found, turn, _, _ = cv2.solvePnPRansac(
            points, image, intrinsics, None, iterationsCount=200, reprojectionError=THRESHOLD
        )
        rotations.append(cv2.Rodrigues(turn)[0] if found else np.eye(3))
    return torch.from_numpy(np.stack(rotations))


def poselib_rotations(poselib: ModuleType, scene: Scene) -> Tensor:
    """Loop over images with PoseLib's LO-RANSAC and its refinement."""
    camera = {"model": "PINHOLE", "width": 2, "height": 2, "params": [FOCAL, FOCAL, 0.0, 0.0]}
    rotations = []
    for image, points in zip(scene.image.double().numpy(), scene.points.double().numpy(), strict=True):
        pose, _ = poselib.estimate_absolute_pose(image, points, camera, {"max_reproj_error": THRESHOLD}, {})
        rotations.append(getattr(pose, "pose", pose).R)
    return torch.from_numpy(np.stack(rotations))


def kornia_rotations(calibration: ModuleType, scene: Scene) -> Tensor:
    """Solve the batch with kornia's DLT, which has no defense against outliers."""
    intrinsics = torch.diag(torch.tensor([FOCAL, FOCAL, 1.0], dtype=torch.float64)).expand(len(scene.image), 3, 3)
    pose: Tensor = calibration.solve_pnp_dlt(scene.points.double(), scene.image.double(), intrinsics)
    return pose[:, :3, :3]


def solvers() -> dict[str, Callable[[Scene], Tensor] | None]:
    """Return the solvers; None where a peer is not installed."""

    def peer(module: str, solve: Callable[[Any, Scene], Tensor]) -> Callable[[Scene], Tensor] | None:
        try:
            loaded = importlib.import_module(module)
        except ImportError:
            return None
        return lambda scene: solve(loaded, scene)

    return {
        "kpose": kpose_rotations,
        "opencv": peer("cv2", opencv_rotations),
        "poselib": peer("poselib", poselib_rotations),
        "kornia": peer("kornia.geometry.calibration", kornia_rotations),
    }


def compare(batch: int, repeats: int) -> dict[str, dict[str, dict[str, float | None]]]:
    """Print errors and speed of all solvers on the same correspondences, and return them."""
    result: dict[str, dict[str, dict[str, float | None]]] = {}
    print(f"batch {batch}, noise 0.05, 20 % outliers, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(f"{'N':>3} {'solver':8} {'median deg':>11} {'mean deg':>9} {'> 45 deg':>9} {'poses/s':>9}")
    for count in (32, 64):
        scenes = [make_scenes(count, batch, noise=0.05, outliers=0.2, seed=seed) for seed in range(repeats)]
        median: dict[str, float | None] = {}
        speed: dict[str, float | None] = {}
        for name, solve in solvers().items():
            if solve is None:
                median[name] = speed[name] = None
                continue
            solve(scenes[0])
            errors, seconds = [], []
            for scene in scenes:
                start = time.perf_counter()
                rotation = solve(scene)
                seconds.append(time.perf_counter() - start)
                errors.append(errors_deg(rotation, scene))
            error = torch.cat(errors)
            median[name], speed[name] = error.median().item(), batch / statistics.median(seconds)
            bad = (error > 45).float().mean().item()
            print(f"{count:3} {name:8} {median[name]:11.2f} {error.mean():9.2f} {bad:9.1%} {speed[name]:9.0f}")
        result[str(count)] = {"median_deg": median, "poses_per_s": speed}
    return result


# ---- grid


class Cell(NamedTuple):
    """One setting of the grid, and the best earlier result: mean, median, and per cent above 45 degrees."""

    count: int
    noise: float
    outliers: float
    front: bool
    best: tuple[float, float, float]


# The best of closed form, least squares and RANSAC with least squares in the study that chose the number of
# keypoints (a few hundred poses a cell).
GRID = (
    Cell(8, 0.05, 0.0, True, (31.1, 18.6, 20)),
    Cell(16, 0.05, 0.0, True, (18.1, 12.1, 5)),
    Cell(32, 0.05, 0.0, True, (8.4, 7.1, 1)),
    Cell(64, 0.05, 0.0, True, (5.5, 4.9, 0)),
    Cell(32, 0.05, 0.2, True, (19.4, 12.4, 8)),
    Cell(64, 0.05, 0.2, True, (9.3, 7.7, 1)),
    Cell(32, 0.02, 0.2, True, (3.9, 3.4, 0)),
    Cell(8, 0.05, 0.0, False, (8.9, 7.7, 0)),
    Cell(16, 0.05, 0.2, False, (7.5, 6.6, 0)),
    Cell(32, 0.05, 0.2, False, (6.3, 5.4, 0)),
    Cell(64, 0.05, 0.2, False, (4.4, 3.9, 0)),
)

GRID_BATCH = 5000


def print_grid(poses: int) -> None:
    """Print the Markdown tables: points by farthest point sampling, then at random."""
    for spread in (True, False):
        print("Points by farthest point sampling:\n" if spread else "\nPoints at random on the ellipsoid:\n")
        print("| points | N | noise | outliers | kpose | least squares | best of the study |")
        print("|---|---|---|---|---|---|---|")
        for cell in GRID:
            errors: dict[float | None, list[Tensor]] = {0.1: [], None: []}
            # Every batch has point sets of its own.
            for seed, start in enumerate(range(0, poses, GRID_BATCH)):
                scene = make_scenes(
                    cell.count,
                    min(GRID_BATCH, poses - start),
                    noise=cell.noise,
                    outliers=cell.outliers,
                    front=cell.front,
                    spread=spread,
                    seed=seed,
                )
                for threshold, found in errors.items():
                    found.append(errors_deg(solve_pnp(*scene[:3], threshold=threshold).camera.rotation, scene))
            ours, plain = (_summary(torch.cat(found)) for found in errors.values())
            which = "front" if cell.front else "all"
            mean, median, bad = cell.best
            print(
                f"| {which} | {cell.count} | {cell.noise:.2f} | {cell.outliers:.0%} | {ours} | {plain} "
                f"| {mean:.1f} / {median:.1f} / {bad:.0f} % |"
            )


def _summary(error: Tensor) -> str:
    return f"{error.mean():.1f} / {error.median():.1f} / {100 * (error > 45).float().mean():.0f} %"


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grid", action="store_true", help="print the tables of docs/pnp.md instead")
    parser.add_argument("--poses", type=int, default=50000, help="poses of each cell of the grid (default: 50000)")
    parser.add_argument("--batch", type=int, default=256, help="images of a batch (default: 256)")
    parser.add_argument("--repeats", type=int, default=8, help="batches to time (default: 8)")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch (default: 2)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.grid:
        print_grid(args.poses)
    else:
        print(json.dumps(compare(args.batch, args.repeats)))


if __name__ == "__main__":
    main()
