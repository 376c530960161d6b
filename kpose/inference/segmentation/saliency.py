"""A segmenter without weights: what differs from the border of the picture, in color."""

import torch
from jaxtyping import Bool, Float, Int
from kornia.color import rgb_to_lab
from kornia.contrib import connected_components
from kornia.filters import gaussian_blur2d
from torch import Tensor
from torch.nn.functional import conv3d, interpolate, pad

from kpose.inference.segmentation.segmenter import Segment, Segmenter

__all__ = ["SaliencySegmenter"]

_BINS = 16  # of each Lab channel
_CHROMA = 60.0  # beyond it colors share the last bin
_EDGE = 2  # pixels of the border
_ROUNDS = 3
_CENTER_SPREAD = 0.7  # standard deviation of the place of objects, in half pictures
_LOGIT_GAIN = 10.0
_FLOOR = 1e-3  # of the weight between neighbors
_TINY = 1e-6


class SaliencySegmenter(Segmenter):
    """Find the one salient object: what differs from the border of the picture.

    Pixels count as salient by how much colors must change on the way to the border (minimum barrier distance), and
    less so far from the center. From there on object and background are learned as histograms of colors, the
    border always being background, and smoothed along but not across edges by a random walk, some times in turn.
    It is for photos of one object before a calm background. It needs no weights, knows no birds, and is misled by
    backgrounds of many colors.

    Args:
        side: Longer side of the picture that is worked on, in pixels.
        threshold: Salience that is as likely object as background, in [0, 1].
        strength: Trust in the pixels' own colors beside that in their neighbors.

    Raises:
        ValueError: If ``side`` is below 16.

    Source:
        Zhang et al., Minimum Barrier Salient Object Detection at 80 FPS, ICCV 2015; Grady, Random Walks for Image
        Segmentation, PAMI 2006; the alternation is that of Rother et al., GrabCut, SIGGRAPH 2004.

    Example:
        >>> picture = torch.full((3, 60, 80), 0.2)
        >>> picture[0, 20:40, 30:60] = 0.9
        >>> [segment] = SaliencySegmenter().segment(picture)
        >>> [round(edge, -1) for edge in segment.box]
        [30.0, 20.0, 60.0, 40.0]
    """

    recognizes = False

    def __init__(self, *, side: int = 96, threshold: float = 0.3, strength: float = 0.05) -> None:
        if side < 16:
            raise ValueError(f"SaliencySegmenter needs a side of at least 16 pixels; got {side}. Enlarge it.")
        self.side = side
        self.threshold = threshold
        self.strength = strength

    @torch.no_grad()
    def segment(self, image: Float[Tensor, "3 H W"]) -> list[Segment]:
        """Find the object; see `Segmenter.segment`. A picture of one color has none."""
        height, width = image.shape[-2:]
        factor = min(1.0, self.side / max(height, width))
        size = max(8, round(height * factor)), max(8, round(width * factor))
        small = interpolate(image[None].float(), size, mode="bilinear", align_corners=False, antialias=True)
        lab = gaussian_blur2d(rgb_to_lab(small.clamp(0, 1)), (3, 3), (0.8, 0.8))[0]
        salience = barrier_distance(lab)
        if salience.max() < 1:  # less than an eye can tell
            return []
        prior = _LOGIT_GAIN * (_unit(_unit(salience) * _center(size, lab)) - self.threshold)
        cells, border = _cells(lab), _border(size)
        share = prior.sigmoid()
        for _ in range(_ROUNDS):
            color = _posterior(cells, share, border).clamp(0.02, 0.98).logit()
            share = random_walk(lab, (color + prior / 2).sigmoid(), self.strength)
            share = (8 * (share - 0.5)).sigmoid()
        mask = _largest(share)
        if mask is None:
            return []
        found = interpolate((share * mask)[None, None], (height, width), mode="bilinear", align_corners=False)[0, 0]
        return [Segment(found.clamp(0, 1), float(share[mask].mean()))]


def barrier_distance(lab: Float[Tensor, "3 H W"]) -> Float[Tensor, "H W"]:
    """Compute the least range of colors along any path from each pixel to the border, summed over the channels.

    All pixels look at their neighbors until nothing changes.
    """
    distance = torch.full_like(lab, torch.inf)
    distance[:, 0] = distance[:, -1] = distance[:, :, 0] = distance[:, :, -1] = 0
    highest, lowest = lab, lab
    for _ in range(2 * max(lab.shape)):
        before = distance
        neighbors = (_neighbors(field) for field in (distance, highest, lowest))
        for reach, high, low in zip(*neighbors, strict=True):
            high, low = torch.maximum(high, lab), torch.minimum(low, lab)
            cost = torch.where(reach.isinf(), reach, high - low)
            nearer = cost < distance
            distance = torch.where(nearer, cost, distance)
            highest, lowest = torch.where(nearer, high, highest), torch.where(nearer, low, lowest)
        if torch.equal(before, distance):
            break
    return distance.sum(0)


def random_walk(lab: Float[Tensor, "3 H W"], prior: Float[Tensor, "H W"], strength: float) -> Float[Tensor, "H W"]:
    """Smooth a map of probabilities along, but not across, the edges of a picture.

    A walker from each pixel stops with ``strength``, where steps to like neighbors have weight 1; the result is the
    probability that it stops in the foreground: the solution of a linear system, by conjugate gradients.
    """
    right = (lab[:, :, 1:] - lab[:, :, :-1]).square().sum(0)
    down = (lab[:, 1:] - lab[:, :-1]).square().sum(0)
    beta = 0.5 / torch.cat((right.flatten(), down.flatten())).mean().clamp_min(_TINY)
    right, down = (-beta * right).exp() + _FLOOR, (-beta * down).exp() + _FLOOR

    def system(x: Tensor) -> Tensor:
        across, along = right * (x[:, 1:] - x[:, :-1]), down * (x[1:] - x[:-1])
        flow = pad(across, (1, 0)) - pad(across, (0, 1)) + pad(along, (0, 0, 1, 0)) - pad(along, (0, 0, 0, 1))
        return strength * x + flow

    x = prior.clone()
    residual = strength * prior - system(x)
    direction, energy = residual, residual.square().sum()
    for _ in range(150):
        if energy < 1e-8 * x.numel():
            break
        image = system(direction)
        step = energy / (direction * image).sum()
        x = x + step * direction
        residual = residual - step * image
        previous, energy = energy, residual.square().sum()
        direction = residual + energy / previous * direction
    return x.clamp(0, 1)


def _neighbors(field: Tensor) -> list[Tensor]:
    """Return the eight shifted copies of a field; beyond the border there is itself."""
    height, width = field.shape[-2:]
    padded = pad(field[None], (1, 1, 1, 1), mode="replicate")[0]
    places = [(i, j) for i in range(3) for j in range(3) if (i, j) != (1, 1)]
    return [padded[:, i : i + height, j : j + width] for i, j in places]


def _unit(x: Tensor) -> Tensor:
    return (x - x.min()) / (x.max() - x.min()).clamp_min(_TINY)


def _center(size: tuple[int, int], like: Tensor) -> Tensor:
    y, x = (2 * (torch.arange(n).to(like) + 0.5) / n - 1 for n in size)
    return (-(y[:, None].square() + x.square()) / (2 * _CENTER_SPREAD**2)).exp()


def _border(size: tuple[int, int]) -> Bool[Tensor, "H W"]:
    border = torch.ones(size, dtype=torch.bool)
    border[_EDGE:-_EDGE, _EDGE:-_EDGE] = False
    return border


def _cells(lab: Tensor) -> Int[Tensor, "H W"]:
    """Compute the cell of the color histogram that each pixel falls into."""
    low, span = lab.new_tensor([0, -_CHROMA, -_CHROMA]), lab.new_tensor([100, 2 * _CHROMA, 2 * _CHROMA])
    steps = ((lab - low[:, None, None]) / span[:, None, None] * _BINS).long().clamp(0, _BINS - 1)
    return (steps[0] * _BINS + steps[1]) * _BINS + steps[2]


def _posterior(cells: Tensor, share: Tensor, border: Tensor) -> Tensor:
    """Compute the probability of the object for each pixel's color, object and background being as likely."""
    inside = _histogram(cells, share * ~border)
    # The border is surer background than what was taken for background so far.
    outside = 0.2 * _histogram(cells, 1 - share) + 0.8 * _histogram(cells, border.to(share))
    return (inside + 1e-5) / (inside + outside + 2e-5)


def _histogram(cells: Tensor, weights: Tensor) -> Tensor:
    """Compute the smoothed density of weighted colors at each pixel's color."""
    counts = weights.new_zeros(_BINS**3).index_add(0, cells.flatten(), weights.flatten())
    kernel = weights.new_tensor([0.25, 0.5, 0.25])
    kernel = kernel[:, None, None] * kernel[:, None] * kernel
    smooth = conv3d(counts.view(1, 1, _BINS, _BINS, _BINS), kernel[None, None], padding=1).flatten()
    return (smooth / smooth.sum().clamp_min(_TINY))[cells]


def _largest(share: Tensor) -> Bool[Tensor, "H W"] | None:
    """Return the connected region with most of the share."""
    covered = share > 0.5
    if not covered.any():
        return None
    regions = connected_components(covered[None, None].to(share), num_iterations=2 * max(share.shape))[0, 0].long()
    weight = share.new_zeros(int(regions.max()) + 1).index_add(0, regions.flatten(), share.flatten())
    weight[0] = 0
    return regions == weight.argmax()
