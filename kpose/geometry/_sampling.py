"""Farthest point sampling, also of mirror-symmetric sets."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["farthest_point_sampling", "mirror_permutation"]


def farthest_point_sampling(
    points: Float[Tensor, "V 3"],
    count: int,
    *,
    generator: torch.Generator | None = None,
    mirror: Int[Tensor, "V"] | None = None,
) -> Int[Tensor, "count"]:
    """Choose points that lie far from each other, one after the other.

    The first is drawn at random; each next one is the point farthest from all chosen so far.

    Args:
        points: Positions.
        count: Number of points to choose, from 1 to the number of points.
        generator: Source of randomness for the first point, on the CPU.
        mirror: Partner of each point under a mirror (`kpose.geometry.mirror_pairs`). When given, points enter
            together with their partners, so that the set is closed under mirroring; a place that is left for a
            single point goes to one on the symmetry plane.

    Returns:
        Indices of the chosen points, all different, in the order of choice.

    Raises:
        ValueError: If ``count`` is out of range, or if no symmetric set of that size exists.

    Source:
        Eldar et al., The Farthest Point Strategy for Progressive Image Sampling, TIP 1997.

    Example:
        >>> line = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 5.0, 0.0]])
        >>> sorted(farthest_point_sampling(line, 2, generator=torch.Generator().manual_seed(0)).tolist())
        [0, 2]
    """
    total = len(points)
    if not 1 <= count <= total:
        raise ValueError(f"farthest_point_sampling needs a count from 1 to {total} (the points); got {count}.")
    free = torch.ones(total, dtype=torch.bool, device=points.device)
    single = free.clone() if mirror is None else mirror == torch.arange(total, device=points.device)
    room, singles = count, int(single.sum())
    pairs = (total - singles) // 2
    if not _fits(room, singles, pairs):
        raise ValueError(
            f"farthest_point_sampling needs a count that singles and pairs can make up; got {count} of {singles} "
            f"points on the symmetry plane and {pairs} pairs. Ask for one more or one less."
        )
    # All points are equally far from nothing: the first is the random one, or the next that leaves a way to count.
    distance = torch.full_like(points[:, 0], torch.inf)
    start = int(torch.randint(total, (), generator=generator))
    chosen: list[int] = []
    while room:
        allowed = free & torch.where(
            single, _fits(room - 1, singles - 1, pairs), _fits(room - 2, singles, pairs - 1)
        )
        scores = torch.where(allowed, distance, -1.0)
        index = start if not chosen and allowed[start] else int(scores.argmax())
        members = [index] if mirror is None or single[index] else [index, int(mirror[index])]
        for member in members:
            distance = torch.minimum(distance, (points - points[member]).square().sum(-1))
        free[members] = False
        chosen += members
        room -= len(members)
        singles -= len(members) == 1
        pairs -= len(members) == 2
    return torch.tensor(chosen, device=points.device)


def _fits(room: int, singles: int, pairs: int) -> bool:
    """Check whether some of the singles and some of the pairs fill the room exactly."""
    return room >= 0 and singles >= 0 and pairs >= 0 and max(room % 2, room - 2 * pairs) <= singles


def mirror_permutation(indices: Int[Tensor, "N"], mirror: Int[Tensor, "V"]) -> Int[Tensor, "N"]:
    """Return the order of a symmetric set of points after mirroring.

    Args:
        indices: Indices of the points, closed under mirroring, all different.
        mirror: Partner of each point.

    Returns:
        For each entry the place of its partner: ``indices[permutation] == mirror[indices]``. It is its own inverse.

    Raises:
        ValueError: If a partner is not in the set.

    Example:
        >>> mirror_permutation(torch.tensor([4, 0, 2]), torch.tensor([4, 1, 2, 3, 0]))
        tensor([1, 0, 2])
    """
    match = mirror[indices][:, None] == indices[None]
    if not bool((match.sum(-1) == 1).all()):
        raise ValueError(
            "mirror_permutation needs indices closed under mirroring, each once; got a point whose partner is not "
            "there. Sample with farthest_point_sampling(..., mirror=...)."
        )
    return match.int().argmax(-1)
