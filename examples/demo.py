"""Train a keypoint and a quaternion head on rendered birds, score both on held-out ones and show what they see.

    python examples/demo.py --out demo            # minutes; `make demo` calls it
    python examples/demo.py --out demo --quick    # seconds: checks that everything runs, learns nothing

Both heads get the same backbone, pictures, number of steps, optimizer and schedule, each the learning rate that
suits it, and are scored on the same pictures by the same test loop. The folder then holds ``index.html``,
``metrics.json``, ``keypoint.ckpt`` and ``quaternion.ckpt`` (for `kpose.inference.Predictor` and ``kpose predict``),
some held-out ``photos`` and the rendered data in ``cache``.
"""

import argparse
import json
import logging
import secrets
import shlex
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, Subset

from kpose.cli import main as kpose
from kpose.data import SyntheticBirdsDataModule, SyntheticBirdsDataset
from kpose.tasks import PoseEstimator
from kpose.visualization import to_pillow

from demo_page import HeadResult, page

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True)
class Settings:
    """What is trained, and how long."""

    data: dict[str, Any]
    epochs: int
    page_size: int
    """Side of the photos on the page, in pixels; the networks see those of ``data``."""


FULL = Settings(
    {"num_train": 2400, "num_val": 32, "num_test": 256, "image_size": 64, "batch_size": 16}, epochs=8, page_size=256
)
QUICK = Settings(
    {"num_train": 16, "num_val": 1, "num_test": 6, "image_size": 32, "batch_size": 8}, epochs=1, page_size=32
)
# Each head's best learning rate of those tried (1e-3 to 4e-3). On maps of 16 cells a side a Gaussian of about a
# cell's width is found soonest.
HEADS = {
    "keypoint": {
        "optimizer.init_args.lr": 2e-3,
        "head.init_args.num_keypoints": 32,
        "head.init_args.width": 48,
        "head.init_args.sigma": 0.15,
    },
    "quaternion": {"optimizer.init_args.lr": 1e-3},
}


def demo(out: Path = Path("demo"), *, quick: bool = False, birds: int = 6) -> None:
    """Train, score and show both heads.

    Args:
        out: Folder of everything the demo writes; rendered pictures are found there again.
        quick: Whether to take a few small pictures and two steps only.
        birds: Number of held-out birds on the page, at most 32.
    """
    be_quiet()
    settings = QUICK if quick else FULL
    out.mkdir(parents=True, exist_ok=True)
    data = SyntheticBirdsDataModule(**settings.data, cache_dir=out / "cache")
    held_out = next(iter(DataLoader(Subset(data.datasets["test"], range(birds)), batch_size=birds)))
    # The same birds in more pixels, to look at.
    start = data.datasets["test"].start
    large = SyntheticBirdsDataset(birds, settings.page_size, start=start, cache_dir=out / "cache")
    photos = [large[row]["image"] for row in range(birds)]

    results = {}
    for head in HEADS:
        seconds = train(head, out, settings)
        task = PoseEstimator.load_from_checkpoint(out / f"{head}.ckpt", map_location="cpu", weights_only=True)
        (scores,) = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).test(
            task, data, verbose=False
        )
        with torch.no_grad():
            prediction = task.eval()(held_out["image"])
        results[head] = HeadResult(scores["test/angle_deg"], scores["test/iou"], seconds, prediction)
        say(f"{head}: {results[head].angle_deg:.1f}° mean angular error, IoU {results[head].iou:.3f}")

    metrics = {head: {"angle_deg": result.angle_deg, "iou": result.iou} for head, result in results.items()}
    replace(out / "metrics.json", json.dumps(metrics, indent=2) + "\n")
    replace(out / "index.html", page(photos, held_out["camera"], results, settings.data, settings.epochs))
    (out / "photos").mkdir(exist_ok=True)
    for row, photo in enumerate(photos):
        to_pillow(photo).save(out / "photos" / f"bird_{row}.png")
    say(f"open {out / 'index.html'}")


def train(head: str, out: Path, settings: Settings) -> float:
    """Train one head by ``kpose fit``, on the configuration files that users layer.

    Args:
        head: Name of a file in ``configs/head``.
        out: Folder; its ``<head>.ckpt`` is replaced.
        settings: What is trained, and how long.

    Returns:
        Time that it took, in seconds.
    """
    layers = ("base", f"head/{head}", "data/synthetic")
    data = {**settings.data, "cache_dir": out / "cache"}
    arguments = [
        "fit",
        *(f"--config={CONFIGS / layer}.yaml" for layer in layers),
        *(f"--model.init_args.{name}={value}" for name, value in HEADS[head].items()),
        *(f"--data.init_args.{name}={value}" for name, value in data.items()),
        f"--trainer.max_epochs={settings.epochs}",
        f"--trainer.default_root_dir={out / 'logs' / head}",
        "--trainer.accelerator=cpu",
        "--trainer.limit_val_batches=0",  # only the end is scored, on the test pictures
        "--trainer.callbacks=pytorch_lightning.callbacks.ModelCheckpoint",
        f"--trainer.callbacks.dirpath={out}",
        f"--trainer.callbacks.filename={head}",
        "--trainer.callbacks.enable_version_counter=false",
    ]
    say(f"training the {head} head: kpose {shlex.join(arguments)}")
    start = time.monotonic()
    kpose(arguments)
    return time.monotonic() - start


def replace(path: Path, text: str) -> None:
    """Write a file under another name, then put it in place."""
    fresh = path.with_suffix(f".{secrets.token_hex(4)}.tmp")
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(path)


def say(line: str) -> None:
    """Print a line of the demo between Lightning's."""
    sys.stdout.write(f"\n>> {line}\n")
    sys.stdout.flush()


def be_quiet() -> None:
    """Leave out Lightning's advice on hardware and loaders: a demo has small data and whatever machine there is."""
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", module="lightning_fabric")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train two pose heads on rendered birds and compare them.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder of everything the demo writes")
    parser.add_argument("--quick", action="store_true", help="two steps on a few pictures: learns nothing")
    options = parser.parse_args()
    demo(options.out, quick=options.quick)
