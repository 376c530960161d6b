"""How far rendered objects are from photographed ones, within the annotated silhouettes."""

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from kpose._precision import widened
from kpose.backbones import Backbone
from kpose.recipe import Recorded
from kpose.structures import Features

__all__ = ["AppearanceDistance", "FeatureDistance", "LPIPSDistance", "PixelDistance"]


class AppearanceDistance(Recorded, nn.Module, ABC):
    """Measure how unlike rendered and photographed objects are.

    Example:
        >>> class GrayDistance(AppearanceDistance):
        ...     def forward(self, rendered, photo, mask):
        ...         gray = (rendered.mean(2) - photo.mean(1)[:, None]).abs()
        ...         return (gray * mask[:, None]).mean((2, 3))
        >>> GrayDistance()(torch.zeros(1, 2, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.ones(1, 4, 4))
        tensor([[1., 1.]])
    """

    @abstractmethod
    def forward(
        self,
        rendered: Float[Tensor, "N P 3 h w"],
        photo: Float[Tensor, "N 3 h w"],
        mask: Float[Tensor, "N h w"],
    ) -> Float[Tensor, "N P"]:
        """Compare each photo with several renderings, all multiplied by the annotated silhouette.

        Args:
            rendered: Rendered images, RGB in [0, 1]; gradients pass to them.
            photo: Photos, RGB in [0, 1].
            mask: Annotated silhouettes in [0, 1].

        Returns:
            Distances, lower is more alike. That of one rendering does not depend on the others.
        """


class PixelDistance(AppearanceDistance):
    """Mean of ``|rendered - photo| * mask`` over pixels and channels; zero where the mask is empty.

    Source:
        Gharaee et al. 2022, Eq. 1 (L_pixel), with the absolute difference for the distance.

    Example:
        >>> white, mask = torch.ones(1, 3, 1, 2), torch.tensor([[[1.0, 0.0]]])
        >>> PixelDistance()(0 * white[:, None], white, mask)
        tensor([[0.5000]])
    """

    def forward(
        self,
        rendered: Float[Tensor, "N P 3 h w"],
        photo: Float[Tensor, "N 3 h w"],
        mask: Float[Tensor, "N h w"],
    ) -> Float[Tensor, "N P"]:
        """Compare; see `AppearanceDistance.forward`."""
        return ((rendered - photo[:, None]).abs() * mask[:, None, None]).mean((-3, -2, -1))


class FeatureDistance(AppearanceDistance):
    """Distance between frozen features of masked images, in [0, 4].

    The squared distance of features of unit length, mean over the cells and the maps of the pyramid. Cells without
    features count as equal.

    Args:
        backbone: Where the features come from. A frozen one is shared, one that is trained is copied and the copy
            frozen.
        max_images: Rendered images whose features are computed at a time; what exceeds it is computed again
            backwards, for a third more work. Forty cameras an image are many images.

    Source:
        Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018, Eq. 1,
        without learned weights of the channels.

    Example:
        >>> from kpose.backbones import TinyBackbone
        >>> distance = FeatureDistance(TinyBackbone(width=8))
        >>> distance(torch.rand(2, 4, 3, 32, 32), torch.rand(2, 3, 32, 32), torch.ones(2, 32, 32)).shape
        torch.Size([2, 4])
    """

    def __init__(self, backbone: Backbone, *, max_images: int = 256) -> None:
        super().__init__()
        self.max_images = max_images
        self.backbone = backbone if backbone.frozen else copy.deepcopy(backbone).freeze()

    def forward(
        self,
        rendered: Float[Tensor, "N P 3 h w"],
        photo: Float[Tensor, "N 3 h w"],
        mask: Float[Tensor, "N h w"],
    ) -> Float[Tensor, "N P"]:
        """Compare; see `AppearanceDistance.forward`."""
        inside = mask[:, None]
        with torch.no_grad():
            wanted = self._features(photo * inside)
        seen = self._many_features((rendered * inside[:, None]).flatten(0, 1))
        pyramid = Features(tuple(m.reshape(*rendered.shape[:2], *m.shape[1:]) for m in seen))
        return _feature_distance(pyramid, wanted.at((slice(None), None)))

    def _many_features(self, images: Tensor) -> tuple[Tensor, ...]:
        if len(images) <= self.max_images or not images.requires_grad:
            return self._features(images).maps
        parts = [
            checkpoint(self._features, part, use_reentrant=False, preserve_rng_state=False).maps
            for part in torch.split(images, self.max_images)
        ]
        return tuple(torch.cat(maps) for maps in zip(*parts, strict=True))

    def _features(self, image: Tensor) -> Features:
        # Calling a frozen backbone would cut the gradient with respect to the image.
        return Features(self.backbone.pyramid(self.backbone.normalize(image)))


def _feature_distance(first: Features, second: Features, *, epsilon: float = 1e-6) -> Float[Tensor, "*batch"]:
    """Compare feature pyramids whose leading dimensions broadcast."""

    def unit(features: Tensor) -> Tensor:
        features = widened(features)
        length: Tensor = torch.linalg.vector_norm(features, dim=-3, keepdim=True)
        return features / (length + epsilon)

    pairs = zip(first.maps, second.maps, strict=True)
    terms = [(unit(a) - unit(b)).square().sum(-3).mean((-2, -1)) for a, b in pairs]
    distance: Tensor = torch.stack(terms).mean(0)
    return distance


class LPIPSDistance(AppearanceDistance):
    """Learned perceptual distance (LPIPS) as torchmetrics has it, the one of U-CMR's released code.

    Args:
        network: ``alex``, ``vgg`` or ``squeeze``; torchvision downloads its weights when they are not at hand.

    Raises:
        ModuleNotFoundError: If torchvision is not installed.

    Source:
        Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric, CVPR 2018.

    Example:
        In place of the default of stage 2, once its weights are on this machine::

            task = ShapeTraining(backbone, distance=LPIPSDistance("alex"))
    """

    MIN_SIZE = 64  # below it the coarsest maps of the networks have no cells

    def __init__(self, network: str = "alex") -> None:
        super().__init__()
        self.metric = _lpips(network).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "LPIPSDistance":
        """Stay in evaluation mode: the networks have dropout.

        Args:
            mode: Ignored.

        Returns:
            The distance itself.
        """
        return super().train(False)

    def forward(
        self,
        rendered: Float[Tensor, "N P 3 h w"],
        photo: Float[Tensor, "N 3 h w"],
        mask: Float[Tensor, "N h w"],
    ) -> Float[Tensor, "N P"]:
        """Compare; see `AppearanceDistance.forward`."""
        inside = mask[:, None, None]
        wanted = (photo[:, None] * inside).expand_as(rendered).flatten(0, 1)
        seen = (rendered * inside).flatten(0, 1)
        if min(rendered.shape[-2:]) < self.MIN_SIZE:
            wanted, seen = (
                interpolate(m, (self.MIN_SIZE, self.MIN_SIZE), mode="bilinear", align_corners=False)
                for m in (wanted, seen)
            )
        # Rounding may leave [0, 1] by a bit; LPIPS takes [-1, 1].
        distances: Tensor = self.metric(2 * seen.clamp(0, 1) - 1, 2 * wanted.clamp(0, 1) - 1)
        return distances.view(rendered.shape[:2])


def _lpips(network: str) -> nn.Module:
    """Build the network of the metric, without the metric's state."""
    try:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        metric: Any = LearnedPerceptualImagePatchSimilarity(net_type=network)  # type: ignore[arg-type]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "LPIPSDistance needs torchvision, which is not installed. Run `pip install torchvision`, or take "
            "FeatureDistance."
        ) from error
    net: nn.Module = metric.net
    return net
