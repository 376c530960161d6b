"""The backbone interface: an RGB image in, a feature pyramid out."""

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kpose.recipe import Recorded
from kpose.structures import Batch, Features, FeatureSpec

__all__ = ["Backbone"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(Recorded, nn.Module, ABC):
    """Map images to feature maps, fine to coarse.

    A subclass builds its layers, states what they give in ``spec`` and implements `pyramid`. The images it gets
    there are normalized with ImageNet's statistics, so no caller normalizes anything.

    Args:
        spec: What `forward` gives.

    Example:
        >>> class Patches(Backbone):
        ...     def __init__(self):
        ...         super().__init__(FeatureSpec(channels=(8,), strides=(4,)))
        ...         self.layer = nn.Conv2d(3, 8, 4, stride=4)
        ...     def pyramid(self, image):
        ...         return (self.layer(image),)
        >>> Patches()(torch.rand(2, 3, 32, 32)).maps[0].shape
        torch.Size([2, 8, 8, 8])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, spec: FeatureSpec) -> None:
        super().__init__()
        self.spec = spec
        self.frozen = False
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    @abstractmethod
    def pyramid(self, image: Float[Tensor, "batch 3 H W"]) -> tuple[Float[Tensor, "batch _ _ _"], ...]:
        """Compute the feature maps of normalized images.

        Args:
            image: RGB minus ImageNet's mean, divided by its standard deviation.

        Returns:
            Feature maps, fine to coarse, as ``spec`` says.
        """

    def forward(self, image: Float[Tensor, "batch 3 H W"]) -> Features:
        """Compute the feature pyramid of images.

        Args:
            image: RGB in [0, 1]; height and width divisible by the coarsest stride.

        Returns:
            Feature maps, fine to coarse; without gradient when the backbone is frozen.

        Raises:
            ValueError: If height or width is not divisible: cells would not lie where the maps have them.
        """
        self.check_size(image.shape[-2], image.shape[-1])
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return Features(self.pyramid(self.normalize(image)))

    def check_size(self, height: int, width: int) -> None:
        """Refuse images in which cells would not lie where feature maps have them.

        Args:
            height: Height in pixels.
            width: Width in pixels.

        Raises:
            ValueError: If height or width is not divisible by the coarsest stride.
        """
        step = math.lcm(*self.spec.strides)
        if height % step or width % step:
            below = [side // step * step for side in (height, width)]
            near = " or ".join(f"{w} x {h}" for h, w in (below, [side + step for side in below]) if h and w)
            raise ValueError(
                f"{type(self).__name__} needs images whose sides are multiples of {step} pixels, as its cells are; "
                f"got {width} x {height}. Take {near}, such as by the image_size of the data."
            )

    def features_of(self, batch: Batch) -> Features:
        """Return the feature pyramid of a batch, the cached one where it comes with the batch.

        Args:
            batch: Batch with ``features`` or ``image``.

        Returns:
            Feature maps, fine to coarse.
        """
        if "features" in batch:
            return batch["features"].to(self.mean.dtype)  # halves travel to the device in half the time
        features: Features = self(batch["image"].to(self.mean.device))
        return features

    def normalize(self, image: Float[Tensor, "batch 3 H W"]) -> Float[Tensor, "batch 3 H W"]:
        """Subtract ImageNet's mean and divide by its standard deviation.

        Args:
            image: RGB in [0, 1].

        Returns:
            What `pyramid` takes, in the precision of the weights, channels last: half as fast again on a CPU, and
            what a GPU prefers.
        """
        normalized = ((image - self.mean) / self.std).to(self.mean.dtype)
        return normalized.contiguous(memory_format=torch.channels_last)

    def freeze(self) -> "Backbone":
        """Stop training for good: no gradients, and batch normalization stays in evaluation mode.

        Returns:
            The backbone itself.
        """
        self.frozen = True
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> "Backbone":
        """Switch between training and evaluation; a frozen backbone stays in evaluation.

        Args:
            mode: Whether to train.

        Returns:
            The backbone itself.
        """
        return super().train(mode and not self.frozen)
