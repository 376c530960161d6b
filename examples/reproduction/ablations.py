"""Ablate the pose heads: each choice alone, on the same images, with the same cameras, budget and seeds.

A configuration names the data, the backbone and the heads to train (``variants``). Every variant is trained once
for each seed; what is done is not done again, so the same command continues after a kill or with more seeds. Of the
variant ``default``, a keypoint head, other ways to solve for the camera are scored too (ablation_readings.py): they
need no training. Modules of your own heads are found in ``PYTHONPATH``, here those of examples/custom_head.

    export PYTHONPATH=examples/custom_head
    python examples/reproduction/ablations.py --config examples/configs/ablations/synthetic.yaml --out ablations
    python examples/reproduction/ablations.py --config examples/configs/ablations/cub.yaml --out ablations_cub \
        --data.init_args.root $KPOSE_CUB_ROOT --backbone.init_args.name $KPOSE_BACKBONE

The folder has ``ablations.md`` with the means and standard deviations over the seeds, and ``ablations.json``.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import pytorch_lightning as pl
import torch
from jsonargparse import auto_cli
from torch.optim import AdamW

from kpose._files import write_text
from kpose.backbones import Backbone
from kpose.data import CachedFeaturesDataModule, CUBDataModule, SyntheticBirdsDataModule  # noqa: F401 - by name
from kpose.heads import PoseHead
from kpose.pipeline import fast_precision
from kpose.structures import Batch, Features, FeatureSpec, Template
from kpose.tasks import PoseEstimator, one_cycle

from ablation_readings import score_readings
from figures import markdown, origin

SCORES = ("angle_deg", "angle_deg_median", "angle_acc30", "iou")
DEFAULT = "default"


class ChosenMaps(Backbone):
    """Return some of the feature maps of another backbone.

    Args:
        backbone: The other backbone.
        chosen: Places of the maps that are returned, in order.
    """

    def __init__(self, backbone: Backbone, chosen: Sequence[int]) -> None:
        spec = backbone.spec
        super().__init__(
            FeatureSpec(tuple(spec.channels[i] for i in chosen), tuple(spec.strides[i] for i in chosen))
        )
        self.backbone = backbone
        self.chosen = tuple(chosen)
        if backbone.frozen:
            self.freeze()

    def pyramid(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute all maps and keep those that are chosen."""
        maps = self.backbone.pyramid(image)
        return tuple(maps[place] for place in self.chosen)

    def features_of(self, batch: Batch) -> Features:
        """Keep the chosen ones of cached maps, too."""
        if "features" not in batch:
            return super().features_of(batch)
        return Features(tuple(batch["features"].maps[place].float() for place in self.chosen))


def main(
    data: pl.LightningDataModule,
    backbone: Backbone,
    variants: dict[str, Callable[[FeatureSpec, Template], PoseHead]],
    out: Path,
    maps: dict[str, list[int]] | None = None,
    seeds: list[int] | None = None,
    views: int = 0,
    epochs: int = 12,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    feature_dropout: float = 0.0,
    backbone_lr: float | None = None,
    precision: Literal["32-true", "bf16-mixed", "auto"] = "auto",
) -> None:
    """Train and score the variants and write the table.

    Args:
        data: Data module with cameras.
        backbone: Backbone of all variants; one that is trained starts each of them with the same weights.
        variants: Heads by name.
        out: Folder of the results.
        maps: For variants by name, the places of the backbone's maps that they see; all where not named.
        seeds: Seeds of the training; 0, 1 and 2 when None.
        views: Augmented views of each training image whose frozen features are kept; 0 runs the backbone always.
        epochs: Epochs of each training.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        feature_dropout: Share of feature channels that training leaves out.
        backbone_lr: Peak for a backbone that is trained too; ``learning_rate`` when None.
        precision: Lightning's; the faster one on this machine when ``auto``. The table says which.

    Raises:
        ValueError: If ``maps`` names a variant that there is not.
    """
    maps, seeds = maps or {}, [0, 1, 2] if seeds is None else seeds
    if unknown := sorted(maps.keys() - variants.keys()):
        raise ValueError(f"maps needs names of variants; got {unknown}. Take of {sorted(variants)}.")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        precision = fast_precision(device)
    task_of = partial(
        PoseEstimator,
        optimizer=partial(AdamW, lr=learning_rate, weight_decay=weight_decay),
        lr_scheduler=one_cycle,
        feature_dropout=feature_dropout,
        backbone_lr=backbone_lr,
    )
    trained = "" if backbone.frozen else f", backbone trained at {backbone_lr or learning_rate:g}"
    dropped = f", {feature_dropout:.0%} of the feature channels dropped" if feature_dropout else ""
    cached = f", {views} cached views" if views else ""
    notes = [
        f"{type(data).__name__}, {type(backbone).__name__}. Each row: {epochs} epochs, AdamW, one cycle to "
        f"{learning_rate:g}{trained}, weight decay {weight_decay:g}{dropped}{cached}, precision {precision}."
    ]
    start = {name: value.clone() for name, value in backbone.state_dict().items()}
    backbone.to(device)  # where features that are kept are computed
    served = data
    if views:
        folder = out / "features"
        served = CachedFeaturesDataModule(data, backbone, folder=folder, views=views, precision=precision)
    # Seed by seed, so that an early end leaves every variant with the same seeds.
    for seed in seeds:
        for name, head in variants.items():
            path = out / "scores" / f"{name.replace(' ', '_')}-{seed}.json"
            if path.exists():
                continue
            pl.seed_everything(seed)
            backbone.load_state_dict(start)
            task = task_of(ChosenMaps(backbone, maps[name]) if name in maps else backbone, head)
            task.train()  # the variant before has left the backbone in evaluation
            scores = {name: train(task, served, epochs, precision)}
            if name == DEFAULT:
                scores |= score_readings(task, data)
            write_text(path, json.dumps(scores, indent=2))
            write_results(out, list(variants), notes)


def train(
    task: PoseEstimator, data: pl.LightningDataModule, epochs: int, precision: Literal["32-true", "bf16-mixed"]
) -> dict[str, float]:
    """Train a head and score it."""
    trainer = pl.Trainer(
        accelerator="cpu" if precision == "bf16-mixed" and not torch.cuda.is_available() else "auto",
        devices=1,
        max_epochs=epochs,
        precision=precision,
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    data.setup("fit")  # before the clock starts
    start = time.process_time()
    trainer.fit(task, data)
    minutes = (time.process_time() - start) / 60
    (scores,) = trainer.test(task, data, verbose=False)
    return {**{name: scores[f"test/{name}"] for name in SCORES}, "cpu_minutes": minutes}


def write_results(out: Path, variants: Sequence[str], notes: Sequence[str]) -> None:
    """Collect the scores of all seeds; write them as Markdown and JSON."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for path in sorted((out / "scores").glob("*.json")):
        for name, scores in json.loads(path.read_text()).items():
            rows.setdefault(name, {})[path.stem.rpartition("-")[2]] = scores
    groups = {
        "trained": {name: rows[name] for name in variants if name in rows},
        f"{DEFAULT}, camera from": {name: scores for name, scores in rows.items() if name not in variants},
    }
    figures = {
        "table": "ablations",
        "groups": {title: group for title, group in groups.items() if group},
        "notes": notes,
        "origin": origin(["python", "examples/reproduction/ablations.py", *sys.argv[1:]]),
    }
    write_text(out / "ablations.json", json.dumps(figures, indent=2))
    write_text(out / "ablations.md", markdown(figures))


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
