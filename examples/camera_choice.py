"""Score the choice of cameras by appearance, and what a head could learn from the labels that it makes.

A head averages out random errors of its labels, and learns errors that all objects of a kind share. So labels are
judged twice: by their own angle to the true cameras, and by that of a ridge regression
from the backbone's features to the rotation, on images that were held out from it. True cameras are read for that
alone.

    python examples/camera_choice.py --config examples/configs/ablations/camera_choice.yaml --out choice \
        --data.init_args.root $KPOSE_CUB_ROOT --backbone.init_args.name $KPOSE_BACKBONE \
        --cameras cub/cameras/*/cameras.safetensors

The cameras are those of stage 1, as ``kpose pipeline`` writes them. Every variant's figures are kept in the folder
and not computed again; ``choice.md`` has the table.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from kpose._files import write_text
from kpose.backbones import Backbone
from kpose.data import CachedFeaturesDataModule, CUBDataModule, SyntheticBirdsDataModule  # noqa: F401 - by name
from kpose.geometry import procrustes
from kpose.metrics import angular_error
from kpose.reconstruction import CameraTable, choose_cameras
from kpose.structures import Batch

CELLS = 7  # of the pooled feature maps that the regression sees
COLUMNS = {
    "mean_deg": "mean, deg",
    "median_deg": "median, deg",
    "opposite": "opposite (> 90°)",
    "learned_deg": "learned",
}


class Regression:
    """Ridge regression from features to rotations, fitted to some folds of the images and scored on the others.

    Args:
        batches: All views of the images, with ``features``, ``index`` and ``camera``.
        folds: Number of folds; all views of an image are in the same one.
        shrinkage: Strength of the ridge, as a share of the mean square of the features.
    """

    def __init__(self, batches: list[Batch], folds: int, shrinkage: float) -> None:
        self.batches = batches
        fold = torch.cat([batch["index"] for batch in batches]) % folds
        gram = sum(_gram(batches, place) for place in range(len(batches[0]["features"].maps)))
        ridge = shrinkage * gram.diagonal().mean() * torch.eye(len(gram))
        self.smoother = torch.zeros_like(gram)
        for one in range(folds):
            held_out, known = (fold == one).nonzero()[:, 0], (fold != one).nonzero()[:, 0]
            inner = (gram + ridge)[known][:, known]
            self.smoother[held_out[:, None], known] = torch.linalg.solve(inner, gram[known][:, held_out]).mT

    def angles(self, rotations: Tensor) -> Tensor:
        """Return the angles of what is learned from the rotations of all views, in degrees."""
        flat = rotations.flatten(1)
        learned = procrustes((self.smoother @ (flat - flat.mean(0)) + flat.mean(0)).view(-1, 3, 3))
        return angular_error(learned, true_rotations(self.batches))


def _gram(batches: list[Batch], place: int) -> Tensor:
    """Return the inner products of all views by one of their feature maps."""
    rows = torch.cat(
        [adaptive_avg_pool2d(batch["features"].maps[place].float(), CELLS).flatten(1) for batch in batches]
    )
    rows -= rows.mean(0)
    rows /= rows.norm(dim=1).mean()
    return rows @ rows.mT


def true_rotations(batches: list[Batch]) -> Tensor:
    """Return the true rotations of all views."""
    return torch.cat([batch["camera"].rotation for batch in batches])


def judge(table: CameraTable, regression: Regression) -> dict[str, float]:
    """Score the best cameras of a table."""
    rotations = torch.cat([table.labels(batch).rotation for batch in regression.batches])
    angles = angular_error(rotations, true_rotations(regression.batches))
    return {
        "mean_deg": float(angles.mean()),
        "median_deg": float(angles.median()),
        "opposite": float((angles > 90).float().mean()),
        "learned_deg": float(regression.angles(rotations).mean()),
    }


def markdown(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Write the table."""
    lines = ["| choice | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, row in rows.items():
        cells = (
            f"{row[column]:.{2 if column == 'opposite' else 1}f}" if column in row else "" for column in COLUMNS
        )
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main(
    data: pl.LightningDataModule,
    backbone: Backbone,
    cameras: Path,
    out: Path,
    variants: dict[str, dict[str, Any] | None],
    features: Path | None = None,
    views: int = 4,
    folds: int = 5,
    shrinkage: float = 0.3,
) -> None:
    """Choose by every variant, judge the labels and write the table.

    Args:
        data: Data module with true cameras.
        backbone: Where features come from.
        cameras: Cameras of stage 1.
        out: Folder of the results.
        variants: Arguments of `choose_cameras` by name; null leaves the choice to the silhouettes.
        features: Folder of the cached features; ``out / "features"`` when None.
        views: Augmented views of each training image.
        folds: Folds of the regression.
        shrinkage: Strength of the ridge.
    """
    out.mkdir(parents=True, exist_ok=True)
    served = CachedFeaturesDataModule(data, backbone.freeze(), folder=features or out / "features", views=views)
    served.setup("fit")
    batches = [batch for view in served.view_dataloaders() for batch in view]
    regression = Regression(batches, folds, shrinkage)
    rows = {}
    for name, settings in variants.items():
        path = out / f"{name.replace(' ', '-')}.json"
        if not path.exists():
            table = CameraTable.for_images(served.dataset("train"), file=cameras)
            if settings is not None:
                choose_cameras(table, served.view_dataloaders(), backbone, **settings)
            write_text(path, json.dumps(judge(table, regression), indent=2))
        rows[name] = json.loads(path.read_text())
    learned = regression.angles(true_rotations(batches)).mean()
    rows["the true cameras"] = {"learned_deg": float(learned)}
    write_text(out / "choice.md", markdown(rows))
    print(markdown(rows))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
