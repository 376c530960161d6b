r"""Table 1 of Gharaee et al. 2022: pose heads trained on the same cameras with the same budget, beside the paper's.

    python examples/reproduction/table1.py --data synthetic --out table1
    python examples/reproduction/table1.py --data cub --out table1-cub \
        --root $KPOSE_CUB_ROOT --backbone $KPOSE_BACKBONE

Cameras are learned once and shared; each head is trained once for every seed. Further arguments are those of
`kpose pipeline` and change its configuration, as --pose.epochs=5 does. What is done is not done again: run the same
command to go on after a kill, or with more seeds. The folder has ``table1.json``, ``results.md``, the plot
``table1.png``, each head's checkpoint of the first seed, and the results of the pipeline's steps.
"""

import argparse
import json
import logging
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from jsonargparse import ArgumentError
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from kpose._files import write_text
from kpose._messages import one_line
from kpose.cli.pipeline import build_pipeline, parse_pipeline
from kpose.metrics import angular_error
from kpose.pipeline import Pipeline, TrainedHead, TrainingCameras
from kpose.recipe import encode
from kpose.reconstruction import CameraTable, training_views
from kpose.structures import Batch

from cost import step_cost
from figures import markdown, origin
from plots import draw_table1

CONFIGS = Path(__file__).parents[1] / "configs" / "pipeline"
DATA = {"cub": CONFIGS / "cub-improved.yaml", "synthetic": CONFIGS / "synthetic.yaml"}
PAPER = {  # Gharaee et al. 2022, Table 1
    "quaternion": {"iou": 0.62, "angle_deg": 45.5},
    "gram_schmidt": {"iou": 0.55, "angle_deg": 60.4},
    "svd": {"iou": 0.58, "angle_deg": 50.8},
    "keypoint": {"iou": 0.70, "angle_deg": 40.5},
}

logger = logging.getLogger("table1")


def main(args: Sequence[str] | None = None) -> None:
    """Make the table; exit with one line that says why where that cannot be done."""
    given = list(sys.argv[1:] if args is None else args)
    options, further = _parser().parse_known_args(given)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        figures = {
            "table": "table1",
            "origin": origin(["python", "examples/reproduction/table1.py", *given]),
            **table1(_pipeline(options, further), options.seeds),
        }
    except (ArgumentError, MisconfigurationException, OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"table1.py: {one_line(error)}")
    write_text(options.out / "table1.json", json.dumps(figures, indent=2) + "\n")
    write_text(options.out / "results.md", f"# Table 1\n\n{markdown(figures)}")
    draw_table1(figures, options.out / "table1.png")
    print(markdown(figures))


def table1(pipeline: Pipeline, seeds: Sequence[int]) -> dict[str, Any]:
    """Train every head of a pipeline with every seed, as far as that is not done yet.

    Args:
        pipeline: Data, cameras, heads and budget. Heads of the paper are known by their names ``quaternion``,
            ``gram_schmidt``, ``svd`` and ``keypoint``; others have no figures of the paper beside them.
        seeds: Seeds of the heads, distinct.

    Returns:
        Content of ``table1.json`` but for its origin.

    Raises:
        OSError: If files of the data are missing; nothing has been done then.
        ValueError: If the configuration of a part is wrong, or the data cannot be used; nothing has been done.
    """
    pipeline.check()
    logger.info("cameras of the training images")
    cameras = pipeline.learn_cameras()
    found: dict[str, dict[str, dict[str, float]]] = {name: {} for name in pipeline.heads}
    for seed in seeds:  # an early end leaves every head with the same seeds
        for name in pipeline.heads:
            logger.info("%s, seed %d", name, seed)
            head = pipeline.train_head(name, cameras, seed=seed)
            if seed == seeds[0]:
                pipeline.results.publish(head.checkpoint, f"{name}.ckpt")
            found[name][str(seed)] = head.scores | _compared(pipeline, head, cameras)
    data = pipeline.data
    return {
        "data": {
            "module": type(data).__name__,
            "train_images": len(data.dataset("train")),
            "test_images": len(data.dataset(data.test_split)),
            "test_split": data.test_split,
            "image_size": getattr(data, "image_size", None),
        },
        "settings": _settings(pipeline),
        **cameras.steps,
        "cameras": cameras.errors,
        "heads": {
            name: {"paper": PAPER.get(name), **_summary(scores), "seeds": scores} for name, scores in found.items()
        },
    }


def _settings(pipeline: Pipeline) -> dict[str, Any]:
    """Return the settings of all stages in plain values; None for those that are left out."""
    stages = {name: getattr(pipeline, name) for name in ("search", "choice", "shapes", "pose", "adaptation")}
    plain = {name: None if given is None else encode(given)["init_args"] for name, given in stages.items()}
    if (rerank := pipeline.rerank) is not None:
        numbers = {name: encode(getattr(rerank, name)) for name in ("rounds", "folds", "weight", "fit")}
        plain["rerank"] = {**numbers, "heads": sorted(rerank.heads)}
    return {"seed": pipeline.seed, "views": pipeline.views, **plain}


def _compared(pipeline: Pipeline, head: TrainedHead, cameras: TrainingCameras) -> dict[str, float]:
    """Compare a head's cameras of its training images with labels and true ones; measure a training step."""

    def compare(folder: Path) -> None:
        network, data = head.network, pipeline.training_data(pipeline.pose.batch_size)
        data.prepare_data()
        data.setup("fit")
        labels = CameraTable.for_images(data.dataset("train"), file=cameras.file).labels
        to_label, to_truth = [], []
        first: Batch | None = None  # a whole one, unlike the last, to time steps with
        for batch in training_views(data)[0]:
            first = batch if first is None else first
            with torch.no_grad():
                rotation = network.pose(network.backbone.features_of(batch)).camera.rotation
            to_label.append(angular_error(rotation, labels(batch).rotation))
            if "camera" in batch:
                to_truth.append(angular_error(rotation, batch["camera"].rotation))
        named = {"train_label_deg": to_label, "train_angle_deg": to_truth}
        scores = {key: float(torch.cat(errors).mean()) for key, errors in named.items() if errors}
        assert first is not None
        scores |= step_cost(network, Batch(**{**first, "camera": labels(first)}))
        write_text(folder / "errors.json", json.dumps(scores))

    folder = pipeline.results.step("training_errors", {}, compare, after=[head.checkpoint.parent])
    scores: dict[str, float] = json.loads((folder / "errors.json").read_text())
    return scores


def _summary(seeds: dict[str, dict[str, float]]) -> dict[str, Any]:
    first, *others = seeds.values()
    values = {key: [scores[key] for scores in seeds.values()] for key in first if all(key in one for one in others)}
    return {
        "mean": {key: statistics.fmean(v) for key, v in values.items()},
        "spread": {key: statistics.stdev(v) for key, v in values.items()} if others else None,
    }


def _pipeline(options: argparse.Namespace, further: Sequence[str]) -> Pipeline:
    words = [f"--config={DATA.get(options.data, options.data)}", f"--out={options.out}", *further]
    if options.root is not None:
        words.append(f"--data.init_args.root={options.root}")
    if options.backbone is not None:
        words.append(f"--backbone.init_args.name={options.backbone}")
    settings = parse_pipeline(words, prog="table1.py")
    more = {} if options.heads is None else yaml.safe_load(options.heads.read_text(encoding="utf-8"))
    if double := sorted(more.keys() & {*PAPER, *settings.heads}):
        raise ValueError(
            f"--heads needs names that no head of the table has; got {', '.join(double)}. Rename them."
        )
    words += [f"--heads.{name}={json.dumps(head)}" for name, head in more.items()]
    return build_pipeline(parse_pipeline(words, prog="table1.py"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="table1.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--data", required=True, help=f"{', '.join(DATA)}, or a configuration of `kpose pipeline`")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of all results")
    parser.add_argument("--root", metavar="DIR", help="folder of the photographs")
    parser.add_argument("--backbone", metavar="NAME", help="name or folder of a pretrained backbone")
    parser.add_argument("--seeds", type=_seed, nargs="+", default=[0, 1, 2], metavar="N", help="default: 0 1 2")
    parser.add_argument("--heads", type=Path, metavar="FILE", help="YAML of more heads by name")
    return parser


def _seed(word: str) -> int:
    if not 0 <= int(word) < 2**32:
        raise argparse.ArgumentTypeError(f"needs seeds from 0 to {2**32 - 1}; got {word}")
    return int(word)


if __name__ == "__main__":
    main()
