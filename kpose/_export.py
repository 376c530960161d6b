"""ONNX files of networks."""

import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from kpose._files import write_file

__all__ = ["write_onnx"]


def write_onnx(network: nn.Module, image: Tensor, path: Path) -> None:
    """Write a network that takes images to a dictionary of tensors, for any batch size."""
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"PoseNetwork.export needs {' and '.join(missing)}; not installed. Run `pip install 'kpose[onnx]'`."
        )
    batch = {"image": {0: torch.export.Dim("batch", min=1)}}
    names = list(network(image))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own code
        program = torch.export.export(network, (image,), dynamic_shapes=batch)
        # Its optimizer takes longer than all else, and runtimes have theirs.
        found = torch.onnx.export(
            program, dynamo=True, input_names=["image"], output_names=names, optimize=False, verbose=False
        )
    assert found is not None
    write_file(path, lambda fresh: found.save(str(fresh)))
