"""What the commands that predict share: options for the checkpoint, where it runs, and what finds the object."""

import argparse
from pathlib import Path

import torch

from kpose.inference.predictor import Predictor
from kpose.inference.segmentation import AutomaticSegmenter, Segmenter, TransformersSegmenter

__all__ = [
    "INTERRUPTED",
    "add_predictor_options",
    "check_predictor_options",
    "checkpoint_files",
    "load_predictor",
    "load_segmenter",
    "output_folder",
    "segmenter_name",
]

INTERRUPTED = 130  # the code that a command ends with, as shells say it


def add_predictor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options to a command.

    Args:
        parser: Its parser.
    """
    parser.add_argument(
        "--checkpoint",
        required=True,
        type=Path,
        metavar="CKPT",
        help="what `kpose fit` or `kpose pipeline` has written, or the folder of Predictor.save_pretrained",
    )
    parser.add_argument("--device", default="cpu", help="where the networks run, such as cuda (default: cpu)")
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="side of the crops, if the checkpoint does not know it"
    )
    parser.add_argument(
        "--trust", action="append", default=[], metavar="MODULE",
        help="module of your own that the checkpoint takes classes from; importing it runs its code",
    )  # fmt: skip
    parser.add_argument(
        "--segmenter", metavar="MODEL",
        help="find the object by a segmentation model of transformers, a folder or a name on the Hugging Face Hub, "
        "in place of the one that is found on this machine, or of what stands out",
    )  # fmt: skip
    parser.add_argument(
        "--label", metavar="WORD", help="what the model of --segmenter calls the object (default: bird)"
    )


def check_predictor_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse options that belong to others that were not given, and devices that are not there.

    Args:
        parser: Parser of the command.
        options: What it has read.

    Raises:
        SystemExit: If there is a label without a segmenter, no such device here, or a size that is not positive.
    """
    try:
        torch.empty(0, device=options.device)
    except (RuntimeError, AssertionError):  # the latter where torch is built without CUDA
        parser.error(f"--device needs a device of this machine, such as cpu or cuda:0; got {options.device}")
    if options.image_size is not None and options.image_size < 1:
        parser.error("--image-size must be positive")
    if options.label is not None and options.segmenter is None:
        parser.error("--label is what the model of --segmenter calls the object; give both")


def output_folder(text: str) -> Path:
    """Read the argument of ``--out``, as a type of argparse.

    Args:
        text: The argument.

    Returns:
        Folder; it need not be there.

    Raises:
        ArgumentTypeError: If it is a file.
    """
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a file; a folder is needed")
    return path


def load_predictor(options: argparse.Namespace, segmenter: Segmenter | None) -> Predictor:
    """Load the checkpoint of a command.

    Args:
        options: What the command's parser has read.
        segmenter: What finds the object in photos without box and mask; see `Predictor`.

    Returns:
        Predictor.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be used; see `Predictor.from_checkpoint`.
    """
    load = Predictor.from_pretrained if options.checkpoint.is_dir() else Predictor.from_checkpoint
    return load(
        options.checkpoint,
        device=options.device,
        image_size=options.image_size,
        segmenter=segmenter,
        trusted_modules=options.trust,
    )


def checkpoint_files(options: argparse.Namespace) -> list[Path]:
    """List the files that the checkpoint of a command is made of.

    Args:
        options: What the command's parser has read.

    Returns:
        The file, or those of the folder; none if there is none.
    """
    path: Path = options.checkpoint
    return sorted(entry for entry in (path.iterdir() if path.is_dir() else [path]) if entry.is_file())


def load_segmenter(options: argparse.Namespace) -> Segmenter:
    """Load what finds the object: the model that was named, or else the best that this machine has.

    Args:
        options: What the command's parser has read.

    Returns:
        Segmenter.

    Raises:
        OSError: If there is no such model.
        ValueError: If it is no segmentation model, or does not know the label.
    """
    if options.segmenter is None:
        return AutomaticSegmenter(device=options.device)
    return TransformersSegmenter(options.segmenter, label=options.label or "bird", device=options.device)


def segmenter_name(options: argparse.Namespace) -> str | None:
    """Name the model that finds the object, without loading it.

    Args:
        options: What the command's parser has read.

    Returns:
        The model that was named, or else the one that this machine has; None if there is neither.
    """
    named: str | None = options.segmenter
    return named or AutomaticSegmenter().model_name
