"""Fit how sure a network is of its poses, on photographs whose cameras are known, and measure it on others.

    python examples/train_bird/calibrate.py --root $KPOSE_CUB_ROOT --network bird --out sure.json \
        --strange cars/images

Every second photograph of `val`, from the second on, is for the fit, and the others, of which
``evaluate.py --every 2`` has the figures, for measuring. The calibration is written into the network's folder. Here
alone cameras of structure from motion are learned from.
"""

import json
from pathlib import Path

import torch
from jsonargparse import auto_cli
from torch import Tensor
from torchmetrics.functional.regression import spearman_corrcoef
from tqdm.auto import tqdm

import kpose
from kpose._files import write_text
from kpose.data import CUBDataset
from kpose.inference import Certainty, Picture, Predictor, fit_calibration
from kpose.metrics import angular_error

BATCH = 32
STRANGE = 60  # pictures of noise, and plain ones


class _Recorder:
    """Keep the signals that a predictor gives to its calibration."""

    def __init__(self) -> None:
        self.signals: list[Tensor] = []

    def __call__(self, signals: Tensor) -> Certainty:
        self.signals.append(signals)
        return Certainty(signals[:, 0], signals[:, 0])


def main(
    root: Path, network: Path, out: Path, strange: Path | None = None, limit: int | None = None, seed: int = 0
) -> None:
    """Fit, write and measure.

    Args:
        root: Folder in CUB's layout, with cameras.
        network: Folder of the network, to which the calibration is added.
        out: File of the figures; the signals are kept beside it, for the next call.
        strange: Folder of pictures without a bird, such as the cars of ``examples/own_category.py``.
        limit: Take so many photographs at most.
        seed: Of the order of the photographs in the fit, and of the pictures without birds.
    """
    kept = out.with_suffix(".pt")
    predictor = kpose.load(network)
    if not kept.exists():
        torch.save(_collect(predictor, root, limit), kept)
    signals, errors = torch.load(kept, weights_only=True)
    fit = torch.arange(len(signals)) % 2 == 1
    order = torch.randperm(int(fit.sum()), generator=torch.Generator().manual_seed(seed))
    calibration = fit_calibration(signals[fit][order], errors[fit][order])
    calibration.save(network)
    predictor.calibration = calibration
    figures = _measure(calibration(signals[~fit]), errors[~fit]) | {"photos_of_the_fit": int(fit.sum())}
    figures |= _strangers(predictor, strange, seed)
    write_text(out, json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


def _collect(predictor: Predictor, root: Path, limit: int | None) -> tuple[Tensor, Tensor]:
    """Predict whole photographs, and return signals and errors."""
    images = CUBDataset(root, "val", image_size=predictor.image_size)
    camera = images.annotations.camera
    assert camera is not None
    recorder = _Recorder()
    predictor.calibration = recorder  # type: ignore[assignment]
    errors = []
    items = range(len(images) if limit is None else min(limit, len(images)))
    for start in tqdm(range(0, len(items), BATCH), "photos", unit="batch"):
        part = items[start : start + BATCH]
        found = predictor([images.image_files[item] for item in part])
        truth = camera.rotation[[images.rows[item] for item in part]]
        errors.append(angular_error(torch.stack([one.camera.rotation for one in found]), truth))
    return torch.cat(recorder.signals), torch.cat(errors)


def _measure(certainty: Certainty, errors: Tensor) -> dict[str, float]:
    expected, score = certainty.expected_error_deg, certainty.score
    surest = expected <= expected.quantile(1 / 3)
    return {
        "photos": len(errors),
        "spearman": float(spearman_corrcoef(expected, errors)),
        "mean_error_of_the_surest_third_deg": float(errors[surest].mean()),
        "mean_error_of_the_rest_deg": float(errors[~surest].mean()),
        "mean_error_deg": float(errors.mean()),
        "mean_expected_error_deg": float(expected.mean()),
        "share_sure": float((score >= 0.5).float().mean()),
        "share_within_30_deg_of_sure": float((errors[score >= 0.5] < 30).float().mean()),
        "share_within_30_deg_of_others": float((errors[score < 0.5] < 30).float().mean()),
    }


def _strangers(predictor: Predictor, folder: Path | None, seed: int) -> dict[str, float]:
    """Return the share of pictures without a bird whose score is under 0.2."""
    generator = torch.Generator().manual_seed(seed)
    pictures: dict[str, list[Picture]] = {
        "noise": [torch.rand(3, 240, 320, generator=generator) for _ in range(STRANGE)],
        "plain_colors": [torch.rand(3, 1, 1, generator=generator).expand(3, 240, 320) for _ in range(STRANGE)],
    }
    if folder is not None:
        pictures[folder.parent.name] = [*sorted(folder.iterdir())]
    return {
        f"share_of_{name}_under_0.2": sum((one.score or 0.0) < 0.2 for one in predictor(some)) / len(some)
        for name, some in pictures.items()
    }


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
