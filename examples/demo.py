"""Learn the poses of rendered birds without a pose label, by `kpose pipeline`, and show what two heads see.

    python examples/demo.py --out demo            # minutes; `make demo` calls it
    python examples/demo.py --out demo --quick    # seconds: checks that everything runs, learns nothing

The heads learn from images, masks and a mean shape alone; true cameras only score them, on birds that neither has
seen. The folder is that of the pipeline (``metrics.json``, ``report.html``, ``cameras.safetensors``, and
``keypoint.ckpt`` and ``quaternion.ckpt`` for `kpose.inference.Predictor` and ``kpose predict``), ``index.html``,
the held-out ``photos`` that it shows, and the rendered data in ``cache``.
"""

import argparse
import logging
import secrets
import shlex
import sys
import warnings
from pathlib import Path

from kpose.cli.pipeline import build_pipeline, parse_pipeline
from kpose.data import SyntheticBirdsDataModule, SyntheticBirdsDataset
from kpose.inference import Predictor
from kpose.visualization import to_pillow

from demo_page import HeadResult, page

CONFIGS = Path(__file__).parent / "configs" / "pipeline"
QUICK = (
    "--data.init_args.num_train=16",
    "--data.init_args.num_val=1",
    "--data.init_args.num_test=2",
    "--data.init_args.image_size=32",
    "--data.init_args.batch_size=8",
    "--search.levels=[{size: 16, steps: 2, lr: 0.1, sigma: 4.0e-4}]",
    "--search.num_vertices=100",
    "--choice.num_rotations=200",
    "--pose.epochs=1",
    "--pose.batch_size=8",
)
PAGE_SIZE = 256  # side of the photos on the page, in pixels; the networks see smaller ones


def demo(out: Path = Path("demo"), *, quick: bool = False, birds: int = 6) -> None:
    """Run the pipeline and show its heads.

    Args:
        out: Folder of everything the demo writes; what an earlier run finished is found there again.
        quick: Whether to take a few small pictures and steps only.
        birds: Number of held-out birds on the page, at most 32.
    """
    be_quiet()
    files = (CONFIGS / "synthetic.yaml", CONFIGS / "demo.yaml")
    arguments = [*(f"--config={file}" for file in files), f"--out={out}", "--trainer.accelerator=cpu"]
    arguments += [f"--data.init_args.cache_dir={out / 'cache'}", *(QUICK if quick else ())]
    say(f"kpose pipeline {shlex.join(arguments)}")
    pipeline = build_pipeline(parse_pipeline(arguments))
    metrics = pipeline.run()

    held_out = held_out_birds(pipeline.data, 32 if quick else PAGE_SIZE)
    photos = [held_out[row]["image"] for row in range(birds)]
    rotations = [held_out[row]["camera"].rotation for row in range(birds)]

    results = {}
    for head, scores in metrics["heads"].items():
        # Without a segmenter: the pictures are crops already.
        predictor = Predictor.from_checkpoint(out / f"{head}.ckpt", segmenter=None)
        found = predictor(photos)
        results[head] = HeadResult(scores["angle_deg"], scores["angle_deg_median"], scores["iou"], found)
        say(f"{head}: {scores['angle_deg']:.1f}° mean angular error, IoU {scores['iou']:.3f}")
    data = {name: getattr(pipeline.data, name) for name in ("num_train", "num_test", "image_size")}
    replace(out / "index.html", page(rotations, results, metrics["cameras"], data, pipeline.pose.epochs))
    (out / "photos").mkdir(exist_ok=True)
    for row, photo in enumerate(photos):
        to_pillow(photo).save(out / "photos" / f"bird_{row}.png")
    say(f"open {out / 'index.html'}")


def held_out_birds(data: SyntheticBirdsDataModule, size: int) -> SyntheticBirdsDataset:
    """Return the birds of the test pictures in another number of pixels, to look at.

    Args:
        data: Data module of the pipeline.
        size: Side of the pictures, in pixels.

    Returns:
        The test pictures of the data module, at this size.
    """
    seen = data.dataset("test")
    return SyntheticBirdsDataset(
        len(seen), size, start=seen.start, cache_dir=seen.cache_dir, seed=seen.seed, variety=seen.variety
    )


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
    parser = argparse.ArgumentParser(description="Learn poses of rendered birds without labels and show them.")
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder of everything the demo writes")
    parser.add_argument("--quick", action="store_true", help="a few steps on a few pictures: learns nothing")
    options = parser.parse_args()
    demo(options.out, quick=options.quick, birds=2 if options.quick else 6)
