"""Symmetric shapes: a mean that is learned, and deformations of it that are predicted."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kpose.recipe import Recorded
from kpose.structures import Features, FeatureSpec, Template

__all__ = ["MeanShape", "MirrorSymmetry", "ShapeHead"]


class MirrorSymmetry(nn.Module):
    """Map between free numbers and vertices, or offsets of vertices, that are symmetric about ``x = 0``.

    Free are the vertices on the symmetry plane and one of each pair of partners; the other is its exact mirror
    image, and on the plane x is 0 whatever the number says.

    Args:
        template: Tells the partners.

    Example:
        >>> from kpose.templates import bird
        >>> symmetry = MirrorSymmetry(bird())
        >>> symmetry.num_free, symmetry(torch.ones(symmetry.num_free, 3)).shape
        (360, torch.Size([642, 3]))
    """

    owner: Tensor
    sign: Tensor
    free: Tensor

    def __init__(self, template: Template) -> None:
        super().__init__()
        mirror = template.mirror
        own = torch.arange(len(mirror), device=mirror.device)
        chosen = torch.minimum(own, mirror)
        free, owner = torch.unique(chosen, return_inverse=True)
        sign = torch.where(mirror == own, 0.0, torch.where(own == chosen, 1.0, -1.0))
        ones = torch.ones_like(sign)
        self.register_buffer("free", free, persistent=False)
        self.register_buffer("owner", owner, persistent=False)
        self.register_buffer("sign", torch.stack((sign, ones, ones), -1), persistent=False)

    @property
    def num_free(self) -> int:
        """Number of free vertices."""
        return len(self.free)

    def forward(self, free: Float[Tensor, "*batch F 3"]) -> Float[Tensor, "*batch V 3"]:
        """Return all vertices.

        Args:
            free: Positions or offsets of the free vertices.

        Returns:
            Positions or offsets of all vertices, in the template's order, exactly symmetric.
        """
        return free[..., self.owner, :] * self.sign.to(free)


class MeanShape(nn.Module):
    """Mean shape of a category, a parameter that starts at the template.

    In the released code of Goel et al. vertices may leave the symmetry plane; here they stay.
    """

    def __init__(self, template: Template) -> None:
        super().__init__()
        self.symmetry = MirrorSymmetry(template)
        self.free = nn.Parameter(template.vertices[self.symmetry.free].clone())

    def forward(self) -> Float[Tensor, "V 3"]:
        """Return the vertices."""
        vertices: Tensor = self.symmetry(self.free)
        return vertices


class ShapeHead(Recorded, nn.Module):
    """Predict symmetric deformations of the mean shape from the coarsest feature map.

    The map is reduced by a 1×1 convolution, pooled to ``grid`` × ``grid`` cells, flattened and taken through two
    fully connected layers. Before training the deformations are all but zero.

    Args:
        spec: What the backbone gives.
        template: Tells the number of vertices and what is symmetric to what.
        width: Channels of the reduced map.
        grid: Cells along each side of the pooled map.
        hidden: Units of the fully connected layers.

    Source:
        Goel et al., ECCV 2020 (released code): the same layers with batch normalization and a strided convolution,
        which asks for images of 256 pixels. Layer normalization keeps an image's shape apart from its batch.

    Example:
        >>> from kpose.templates import bird
        >>> head = ShapeHead(FeatureSpec((8,), (32,)), bird())
        >>> head(Features((torch.zeros(2, 8, 2, 2),))).shape
        torch.Size([2, 642, 3])
    """

    def __init__(
        self, spec: FeatureSpec, template: Template, *, width: int = 256, grid: int = 4, hidden: int = 200
    ) -> None:
        super().__init__()
        self.symmetry = MirrorSymmetry(template)
        self.reduce = nn.Sequential(
            nn.Conv2d(spec.channels[-1], width, 1, bias=False),
            nn.GroupNorm(1, width),
            nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(grid),
            nn.Flatten(),
        )
        self.hidden = nn.Sequential(
            nn.Linear(width * grid**2, hidden),
            nn.LayerNorm(hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.LeakyReLU(0.2),
        )
        self.output = nn.Linear(hidden, 3 * self.symmetry.num_free)
        nn.init.normal_(self.output.weight, std=1e-4)
        nn.init.zeros_(self.output.bias)

    def forward(self, features: Features) -> Float[Tensor, "batch V 3"]:
        """Predict offsets of all vertices.

        Args:
            features: What the backbone gives.

        Returns:
            Offsets in object units, exactly symmetric.
        """
        free = self.output(self.hidden(self.reduce(features.maps[-1]))).float()
        offsets: Tensor = self.symmetry(free.unflatten(-1, (-1, 3)))
        return offsets
