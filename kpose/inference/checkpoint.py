"""Networks in files: checkpoints of training runs, and folders as the Hugging Face Hub keeps them.

Nothing of a file is executed: weights are read as tensors, the rest as plain values, and classes are imported as
`kpose.blueprint` allows.
"""

import json
import pickle
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_model
from torch import Tensor

from kpose.blueprint import Blueprint, build_network
from kpose.files import read_json, write_file, write_text
from kpose.messages import one_line
from kpose.network import PoseNetwork
from kpose.structures import Template
from kpose.templates import load_template, save_template

__all__ = ["CONFIG_FILE", "WEIGHTS_FILE", "load_checkpoint", "load_folder", "save_folder"]

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
TEMPLATE_FILE = "{}_template.safetensors"
READ_ERRORS = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError)


def load_checkpoint(
    path: str | PathLike[str], *, trusted_modules: Sequence[str] = ()
) -> tuple[PoseNetwork, Blueprint]:
    """Build the network of a checkpoint that ``kpose fit`` has written, without Lightning.

    Args:
        path: Checkpoint.
        trusted_modules: Modules and packages beside kpose whose classes may be imported.

    Returns:
        Network with its weights, and its description.

    Raises:
        FileNotFoundError: If there is no such file.
        PermissionError: If it may not be read.
        ValueError: If it is damaged or no checkpoint, of another stage, of another version of kpose, or made of
            classes that are not trusted; one line says which.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"A checkpoint is a file; {path} is a folder. Name the .ckpt in it; Predictor.from_pretrained reads "
            "folders of save_pretrained."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no checkpoint {path}. Train one by `kpose fit`.")
    try:
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:  # torch's own text tells how to run what the file holds
        raise ValueError(
            f"{path} holds more than tensors and plain values, or is damaged; nothing of it was run. Train it anew."
        ) from error
    except PermissionError:
        raise
    except READ_ERRORS as error:
        raise ValueError(
            f"{path} is damaged, cut short or no checkpoint. Copy it again, or train it anew."
        ) from error
    if not isinstance(contents, dict) or not _are_tensors(contents.get("state_dict")):
        raise ValueError(f"{path} is no checkpoint of a training run. Give a file that `kpose fit` has written.")
    if not isinstance(contents.get("blueprint"), dict):
        raise ValueError(_why_not(path, contents))
    weights = {k.removeprefix("network."): v for k, v in contents["state_dict"].items() if k.startswith("network.")}
    return _build(path, contents["blueprint"], weights, trusted_modules)


def load_folder(path: str | PathLike[str], *, trusted_modules: Sequence[str] = ()) -> tuple[PoseNetwork, Blueprint]:
    """Build the network of a folder that `save_folder` has written.

    Args:
        path: Folder.
        trusted_modules: Modules and packages beside kpose whose classes may be imported.

    Returns:
        Network with its weights, and its description.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged, or the network cannot be built; one line says why.
    """
    folder = Path(path)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"There is no {name} in {folder}. Give a folder of Predictor.save_pretrained.")
    try:
        blueprint: Any = read_json(folder / CONFIG_FILE)["kpose"]
        names = [name for name in ("network", "head") if name in blueprint["templates"]]
        fields = {name: load_template(folder / TEMPLATE_FILE.format(name))._asdict() for name in names}
        weights = load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, TypeError, *READ_ERRORS) as error:
        raise ValueError(f"{folder} holds no network of kpose ({_line(error)}). Save it again.") from error
    blueprint = {**blueprint, "templates": fields}
    return _build(folder, blueprint, weights, trusted_modules)


def save_folder(network: PoseNetwork, blueprint: Blueprint, path: str | PathLike[str]) -> None:
    """Write a network as a folder: weights, templates and a description, none of which is code.

    Args:
        network: Network.
        blueprint: Its description.
        path: Folder; it is made, and files of these names in it are replaced.
    """
    folder = Path(path)
    for name, fields in blueprint["templates"].items():
        template = Template(**{**fields, "part_names": tuple(fields["part_names"])})
        save_template(template, folder / TEMPLATE_FILE.format(name))
    write_file(folder / WEIGHTS_FILE, lambda fresh: save_model(network, str(fresh)))
    plain = {**blueprint, "templates": sorted(blueprint["templates"])}
    write_text(folder / CONFIG_FILE, json.dumps({"kpose": plain}, indent=2, sort_keys=True) + "\n")


def _build(
    path: Path,
    blueprint: Blueprint,
    weights: Mapping[str, Tensor],
    trusted_modules: Sequence[str],
) -> tuple[PoseNetwork, Blueprint]:
    try:
        network = build_network(blueprint, trusted_modules=trusted_modules)
        network.load_state_dict(weights)
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        raise ValueError(f"{path} cannot be used. {_line(error)}") from error
    except RuntimeError as error:  # of load_state_dict
        raise ValueError(f"{path} holds weights of another network than it describes ({_line(error)}).") from error
    return network.eval(), blueprint


def _are_tensors(weights: object) -> bool:
    return isinstance(weights, dict) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()
    )


def _why_not(path: Path, contents: Mapping[str, Any]) -> str:
    """Say why a checkpoint does not describe its network."""
    settings = contents.get("hyper_parameters")
    stage = str(settings.get("_class_path", "")).rpartition(".")[-1] if isinstance(settings, Mapping) else ""
    if not any(name.startswith("network.") for name in contents["state_dict"]):
        found = f"one of {stage}" if stage else "another"
        return (
            f"Predictor needs a checkpoint of kpose.tasks.PoseEstimator; {path} is {found}, or of an older kpose."
        )
    return (
        f"Predictor needs the classes that {path} was made of; it was trained from Python, which saves none. "
        "Use Predictor(PoseEstimator.load_from_checkpoint(path, backbone=..., head=...), image_size=...)."
    )


def _line(error: BaseException) -> str:
    return one_line(error)[:400]
