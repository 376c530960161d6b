"""How far a rendered silhouette is from an annotated one, one value for each pair."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["distance_transform", "silhouette_loss"]


def distance_transform(mask: Bool[Tensor, "*batch h w"]) -> Float[Tensor, "*batch h w"]:
    """Measure how far every pixel is from the mask.

    Exact, by two passes of one dimension each; kornia's transform is an approximation by repeated convolution.

    Args:
        mask: Silhouettes.

    Returns:
        Euclidean distance of each pixel's center to that of the nearest pixel of the mask, in units of the image's
        longer side; 0 inside the mask, and 1 everywhere if the mask is empty.

    Source:
        Felzenszwalb and Huttenlocher, Distance Transforms of Sampled Functions, 2012, with the minimum of each
        line taken over all its pixels at once; the unit is that of Goel et al., ECCV 2020 (released code).

    Example:
        >>> distance_transform(torch.tensor([[[True, False, False, False]]]))
        tensor([[[0.0000, 0.2500, 0.5000, 0.7500]]])
    """
    height, width = mask.shape[-2:]
    # A finite stand-in for "no pixel in this line": farther than any, small enough to stay exact.
    far = float(4 * (height**2 + width**2))
    columns = torch.where(mask, 0.0, far)
    squared = _nearest(_nearest(columns.mT).mT)
    distance = squared.sqrt() / max(height, width)
    return torch.where(squared >= far, 1.0, distance)


def silhouette_loss(
    rendered: Float[Tensor, "*batch h w"],
    mask: Float[Tensor, "*#batch h w"],
    distance: Float[Tensor, "*#batch h w"],
) -> Float[Tensor, "*batch"]:
    """Compare rendered silhouettes with annotated ones.

    Args:
        rendered: Rendered silhouettes in [0, 1].
        mask: Annotated silhouettes in [0, 1].
        distance: Distance of each pixel to the annotated silhouette (see `distance_transform`): it pulls back what
            was rendered outside, however far away.

    Returns:
        ``mean((rendered - mask)² + distance · rendered)`` over the pixels.

    Source:
        Gharaee et al. 2022, Eq. 1 (L_mask); Goel et al., ECCV 2020 (released code).

    Example:
        >>> mask = torch.tensor([[[True, False]]])
        >>> silhouette_loss(torch.tensor([[[0.5, 0.5]]]), mask.float(), distance_transform(mask))
        tensor([0.3750])
    """
    return ((rendered - mask).square() + distance * rendered).mean((-2, -1))


def _nearest(cost: Float[Tensor, "*batch w"]) -> Float[Tensor, "*batch w"]:
    """Compute, at each place of a line, the least of ``cost + squared distance`` over the line."""
    places = torch.arange(cost.shape[-1], dtype=cost.dtype, device=cost.device)
    offsets = (places[:, None] - places).square()
    return (cost[..., None, :] + offsets).amin(-1)
