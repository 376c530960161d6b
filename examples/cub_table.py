"""Compare the four pose heads on photographs, with the same cameras, features and number of steps.

Cameras come from structure from motion, so the table says what each head can learn from good labels. The backbone
is frozen and its features of a few augmented views of each training image are computed once. A head whose result is
there already is not trained again; delete its file to repeat it.

    python examples/cub_table.py --root $KPOSE_CUB_ROOT --backbone $KPOSE_BACKBONE --out cub_table
"""

import json
import secrets
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from jsonargparse import auto_cli
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR

from kpose.backbones import TransformersBackbone
from kpose.data import CachedFeaturesDataModule, CUBDataModule
from kpose.heads import GramSchmidtHead, KeypointHead, PoseHead, ProcrustesHead, QuaternionHead
from kpose.structures import FeatureSpec
from kpose.tasks import PoseEstimator

HEADS: dict[str, Callable[[FeatureSpec], PoseHead]] = {
    "quaternion": QuaternionHead,
    "Gram-Schmidt": GramSchmidtHead,
    "SVD": ProcrustesHead,
    # The finest cached map has 14 × 14 cells, and a Gaussian of the paper's 0.05 would be narrower than one.
    "keypoints": partial(KeypointHead, width=128, occluded_weight=1.0),
}
COLUMNS = {
    "test/angle_deg": "mean, deg",
    "test/angle_deg_median": "median, deg",
    "test/angle_acc30": "within 30°",
    "test/iou": "IoU",
    "minutes": "minutes",
}


def main(
    root: Path,
    backbone: str,
    out: Path,
    features: Path | None = None,
    views: int = 4,
    epochs: int = 20,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    feature_dropout: float = 0.3,
    split: str = "val",
    seed: int = 0,
) -> None:
    """Train and score the heads and write the table.

    Args:
        root: Folder in CUB's layout, with ``sfm/cameras.csv``.
        backbone: Name or folder of a pretrained backbone that transformers knows.
        out: Folder of the results: a checkpoint and a JSON file a head, ``table.md``.
        features: Folder of the cached features; ``out / "features"`` when None.
        views: Augmented views of each training image.
        epochs: Epochs of each head.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        feature_dropout: Share of feature channels that training leaves out.
        split: Split that is scored.
        seed: Of everything.
    """
    out.mkdir(parents=True, exist_ok=True)
    encoder = TransformersBackbone(backbone, out_stages=(3, 4))
    photos = CUBDataModule(root, image_size=224, batch_size=32, test_split=split)
    data = CachedFeaturesDataModule(photos, encoder, folder=features or out / "features", views=views)
    rows = {}
    for name, head in HEADS.items():
        path = out / f"{name.lower()}-{split}-seed{seed}.json"
        if not path.exists():
            pl.seed_everything(seed)
            task = PoseEstimator(
                encoder,
                head,
                optimizer=partial(AdamW, lr=learning_rate, weight_decay=weight_decay),
                lr_scheduler=partial(_one_cycle, learning_rate),
                feature_dropout=feature_dropout,
            )
            write(path, json.dumps(train(task, data, epochs, path.with_suffix(".ckpt")), indent=2))
        rows[name] = json.loads(path.read_text())
    write(out / "table.md", markdown(rows))


def train(task: PoseEstimator, data: CachedFeaturesDataModule, epochs: int, checkpoint: Path) -> dict[str, float]:
    """Train a head, keep its last weights and score them."""
    trainer = pl.Trainer(
        max_epochs=epochs,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    data.setup("fit")  # before the clock starts: all heads share the features
    start = time.perf_counter()
    trainer.fit(task, data)
    minutes = (time.perf_counter() - start) / 60
    trainer.save_checkpoint(checkpoint)
    (scores,) = trainer.test(task, data, verbose=False)
    return {**scores, "minutes": minutes}


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """Lay the scores out as a Markdown table."""
    lines = ["| head | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---:|" * len(COLUMNS)]
    for name, row in rows.items():
        cells = [f"{row[key]:.2f}" if row[key] < 1 else f"{row[key]:.1f}" for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fresh.write_text(text)
    fresh.replace(path)


def _one_cycle(peak: float, optimizer: torch.optim.Optimizer, steps: int) -> Any:  # noqa: ANN401 - private to torch
    return OneCycleLR(optimizer, peak, total_steps=steps, pct_start=0.1)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
