r"""Where a trained head errs: by azimuth, elevation and roll, by kind of bird, and the worst tenth as a sheet.

    python examples/reproduction/errors.py --checkpoint table1-cub/keypoint.ckpt --root $KPOSE_CUB_ROOT --out errors

The folder has ``errors.json``, ``errors.md`` and ``worst.png``: the predicted pose beside the true one, on gray.
True cameras are compared with and never learned from.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor
from tqdm.auto import tqdm

from kpose._files import write_file, write_text
from kpose.data import CUBDataModule
from kpose.geometry import matrix_to_viewpoint
from kpose.metrics import angular_error
from kpose.network import PoseNetwork
from kpose.structures import Camera, Mesh
from kpose.visualization import image_grid, shaded_mesh, to_pillow

ANGLES = ("azimuth", "elevation", "roll")
BINS = {"azimuth": range(-180, 180, 45), "elevation": range(-60, 60, 30), "roll": range(-45, 45, 30)}
GRAY = 0.6


def main(
    checkpoint: Path, root: Path, out: Path, split: str = "val", batch_size: int = 32, shown: int = 24
) -> None:
    """Predict the images of a split and write where the errors are.

    Args:
        checkpoint: Checkpoint of a head, on a backbone of its own.
        root: Folder in CUB's layout, with cameras.
        out: Folder of the results.
        split: Whose images are predicted.
        batch_size: Images of a batch.
        shown: Pairs on the sheet, spread over the worst tenth.
    """
    network = PoseNetwork.from_checkpoint(checkpoint)
    assert network.image_size is not None
    data = CUBDataModule(root, image_size=network.image_size, batch_size=batch_size, test_split=split)
    data.prepare_data()
    data.setup("test")
    predicted, true, shapes = [], [], []
    with torch.no_grad():
        for batch in tqdm(data.test_dataloader(), "images", unit="batch"):
            features = network.backbone(batch["image"])
            vertices = network.shapes(features)
            predicted.append(network.pose(features, vertices).camera)
            true.append(batch["camera"])
            shapes.append(vertices)
    cameras, truth = (
        Camera(*(torch.cat(parts) for parts in zip(*each, strict=True))) for each in (predicted, true)
    )
    kinds = [file.parent.name.partition(".")[2].replace("_", " ") for file in data.dataset(split).image_files]
    figures = analyze(cameras.rotation, truth.rotation, kinds)
    write_text(out / "errors.json", json.dumps(figures, indent=2) + "\n")
    write_text(out / "errors.md", markdown(figures))
    error = angular_error(cameras.rotation, truth.rotation)
    worst = error.argsort(descending=True)[: max(1, len(error) // 10)]
    rows = worst[torch.linspace(0, len(worst) - 1, min(shown, len(worst))).long()]
    sheet = to_pillow(draw(Mesh(torch.cat(shapes), network.faces), cameras, truth, rows, kinds))
    write_file(out / "worst.png", lambda fresh: sheet.save(fresh, "PNG"))
    print(markdown(figures))


def analyze(rotation: Tensor, target: Tensor, kinds: Sequence[str]) -> dict[str, Any]:
    """Split the errors of rotations.

    Args:
        rotation: Predicted rotations.
        target: True rotations.
        kinds: Kind of the bird in each image.

    Returns:
        Mean and median error, its parts in azimuth, elevation and roll, means in bins of the true angles, and for
        each kind its images, mean error and share of the worst tenth, the worst kind first.
    """
    error = angular_error(rotation, target)
    worst = torch.zeros_like(error, dtype=torch.bool)
    worst[error.argsort(descending=True)[: max(1, len(error) // 10)]] = True
    angles, true = (torch.stack(matrix_to_viewpoint(each)).rad2deg() for each in (rotation, target))
    parts = ((angles - true + 180) % 360 - 180).abs()
    bins = {}
    for name, values in zip(ANGLES, true, strict=True):
        step = BINS[name].step
        inside = {start: (values >= start) & (values < start + step) for start in BINS[name]}
        bins[name] = {
            f"{start} to {start + step}": {"images": int(at.sum()), "angle_deg": float(error[at].mean())}
            for start, at in inside.items()
            if at.any()
        }
    of_kind = {kind: torch.tensor([one == kind for one in kinds]) for kind in sorted(set(kinds))}
    by_kind = {
        kind: {
            "images": int(at.sum()),
            "angle_deg": float(error[at].mean()),
            "share_of_worst": float(worst[at].sum() / worst.sum()),
        }
        for kind, at in of_kind.items()
    }
    return {
        "angle_deg": float(error.mean()),
        "angle_deg_median": float(error.median()),
        "parts_deg": dict(zip(ANGLES, parts.mean(1).tolist(), strict=True)),
        "bins": bins,
        "kinds": dict(sorted(by_kind.items(), key=lambda item: -item[1]["share_of_worst"])),
    }


def markdown(figures: dict[str, Any], kinds: int = 10) -> str:
    """Write the figures as tables."""
    lines = [f"Mean angle {figures['angle_deg']:.1f}°, median {figures['angle_deg_median']:.1f}°.\n"]
    parts = ", ".join(f"{name} {value:.1f}°" for name, value in figures["parts_deg"].items())
    lines += [f"Mean difference: {parts}.\n", "| true angle, ° | images | mean error, ° |", "|---|---:|---:|"]
    for name, rows in figures["bins"].items():
        lines += [f"| {name} {span} | {row['images']} | {row['angle_deg']:.1f} |" for span, row in rows.items()]
    lines += ["", "| kind | images | mean error, ° | share of the worst tenth |", "|---|---:|---:|---:|"]
    lines += [
        f"| {kind} | {row['images']} | {row['angle_deg']:.1f} | {row['share_of_worst']:.3f} |"
        for kind, row in list(figures["kinds"].items())[:kinds]
    ]
    return "\n".join(lines) + "\n"


def draw(mesh: Mesh, predicted: Camera, true: Camera, rows: Tensor, kinds: Sequence[str]) -> Tensor:
    """Draw predicted poses beside true ones, on gray."""
    error = angular_error(predicted.rotation, true.rotation)
    pairs = []
    for row in rows.tolist():
        both = [shaded_mesh(mesh.at(row), camera.at(row), 96) for camera in (predicted, true)]
        pairs.append(torch.cat([torch.full_like(rgb, GRAY).lerp(rgb, mask) for rgb, mask in both], -1))
    return image_grid(pairs, [f"{kinds[row][:20]}, {error[row]:.0f}°" for row in rows.tolist()], columns=4)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
