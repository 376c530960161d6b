"""Training by ``kpose fit``, resumed where it was interrupted."""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kpose.files import write_text
from kpose.messages import one_line
from kpose.network import PoseNetwork
from kpose.pipeline.folder import CHECKPOINT, SCORES
from kpose.training import run_lightning

__all__ = ["fit", "fit_and_score", "trained_network"]

CONFIG = "fit.json"

_log = logging.getLogger(__name__)


def fit(
    config: Mapping[str, Any],
    folder: Path,
    callbacks: Sequence[Mapping[str, Any]] = (),
    *,
    seed: int,
    accelerator: str = "auto",
) -> Any:  # noqa: ANN401 - Lightning's command line, whose parts are of any type
    """Fit as ``kpose fit`` does, so that the checkpoint can be loaded without the pipeline.

    Args:
        config: Configurations ``model``, ``data`` and ``trainer``.
        folder: Where the checkpoint, ``fit.json`` and the logs go; a checkpoint that is there is resumed, unless it
            is damaged.
        callbacks: Configurations of callbacks.
        seed: Of everything.
        accelerator: What Lightning computes on.

    Returns:
        What ran, with ``trainer``, ``model`` and ``datamodule``.
    """
    # One file, replaced after every epoch; with save_last alone Lightning writes it at the end of training only.
    checkpoint = {
        "dirpath": str(folder),
        "filename": Path(CHECKPOINT).stem,
        "save_top_k": 1,
        "enable_version_counter": False,
    }
    keep = {"class_path": "pytorch_lightning.callbacks.ModelCheckpoint", "init_args": checkpoint}
    logger = {"save_dir": str(folder), "name": "logs", "version": ""}
    trainer = {
        "accelerator": accelerator,
        "devices": 1,
        "enable_model_summary": False,
        "logger": {"class_path": "pytorch_lightning.loggers.TensorBoardLogger", "init_args": logger},
        "callbacks": [keep, *callbacks],
        "log_every_n_steps": 10,
        **config["trainer"],
    }
    whole = {"seed_everything": seed, **config, "trainer": trainer}
    last = folder / CHECKPOINT
    if _sound(last):
        whole["ckpt_path"] = str(last)
    path = folder / CONFIG
    write_text(path, json.dumps(whole, indent=2, default=str))
    # What an interrupted run left belongs there, and so does the configuration.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    return run_lightning(["fit", "--config", str(path)], overwrite=True)


def fit_and_score(
    config: Mapping[str, Any],
    folder: Path,
    *,
    seed: int,
    accelerator: str = "auto",
) -> dict[str, float]:
    """Fit, and score the test split; arguments are those of `fit`.

    Args:
        config: Configurations ``model``, ``data`` and ``trainer``.
        folder: Where all results go, ``scores.json`` among them.
        seed: Of everything.
        accelerator: What Lightning computes on.

    Returns:
        Scores by name, without the name of the split.
    """
    cli = fit(config, folder, seed=seed, accelerator=accelerator)
    (scores,) = cli.trainer.test(cli.model, cli.datamodule, verbose=False)
    own = {name.removeprefix("test/"): value for name, value in scores.items()}
    write_text(folder / SCORES, json.dumps(own, indent=2))
    return own


def trained_network(checkpoint: Path) -> PoseNetwork:
    """Load the network of a pose task that `fit` has trained.

    The classes that its configuration names are trusted: training has imported them.

    Args:
        checkpoint: Its checkpoint, with ``fit.json`` beside it.

    Returns:
        Network in evaluation, on the CPU.
    """
    config = json.loads(checkpoint.with_name(CONFIG).read_text())
    modules = sorted({path.rpartition(".")[0] for path in _class_paths(config["model"]) if "." in path})
    return PoseNetwork.from_checkpoint(checkpoint, trusted_modules=modules)


def _sound(checkpoint: Path) -> bool:
    """Tell whether there is a checkpoint to resume; one that is damaged is deleted."""
    if not checkpoint.exists():
        return False
    try:
        torch.load(checkpoint, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # torch's readers raise whatever their parsers do
        _log.warning(
            "%s: it is damaged (%s) and is deleted; its training begins anew.", checkpoint, one_line(error)[:200]
        )
        checkpoint.unlink()
        return False
    return True


def _class_paths(config: object) -> Iterator[str]:
    if isinstance(config, Mapping):
        if isinstance(path := config.get("class_path"), str):
            yield path
        for inner in config.values():
            yield from _class_paths(inner)
    elif isinstance(config, list):
        for inner in config:
            yield from _class_paths(inner)
