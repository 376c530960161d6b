"""Keypoint transfer: whether the same vertex stands for the same part in two images."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kpose.geometry import project
from kpose.rendering import vertex_visibility
from kpose.structures import Camera, Mesh

__all__ = ["KeypointTransfer"]


class KeypointTransfer(Metric):
    """Share of correct keypoints (PCK) among those that predictions carry from one image to another.

    Pairs of images are drawn at random. Each annotated part that is visible in both is looked up in the first: the
    vertex that shows there, the nearest one in sight of the predicted camera, stands for it. Where the second
    image's prediction puts that vertex is compared with the annotation there. A camera that is NaN misses as either
    image of a pair. All images' projected vertices are kept, 5 kB an image of 642 vertices.

    Args:
        threshold: Largest distance of a correct keypoint, as a share of the longer side of the object's box.
        num_pairs: Pairs that are drawn.
        seed: Decides the pairs, with the indices of the images: neither batches nor processes change them.

    Source:
        Kulkarni et al., Canonical Surface Mapping via Geometric Cycle Consistency, ICCV 2019, section 5.1:
        10,000 pairs at 0.1.

    Example:
        >>> from kpose.templates import bird
        >>> template, camera = bird(), Camera(torch.ones(2), torch.zeros(2, 2), torch.eye(3).expand(2, 3, 3))
        >>> mesh = Mesh(template.vertices.expand(2, -1, -1), template.faces)
        >>> metric, parts = KeypointTransfer(num_pairs=100), torch.zeros(2, 1, 2)
        >>> metric.update(camera, mesh, parts, torch.ones(2, 1).bool(), torch.ones(2), torch.arange(2))
        >>> metric.compute()
        tensor(1.)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    records: list[Tensor] | Tensor
    sizes: Tensor

    def __init__(self, *, threshold: float = 0.1, num_pairs: int = 10_000, seed: int = 0) -> None:
        super().__init__()
        if not threshold > 0 or num_pairs < 1:
            raise ValueError(
                f"KeypointTransfer needs a positive threshold and pairs; got {threshold} and {num_pairs}."
            )
        self.threshold = threshold
        self.num_pairs = num_pairs
        self.seed = seed
        self.add_state("records", [], dist_reduce_fx="cat")
        self.add_state("sizes", torch.zeros(2, dtype=torch.long), dist_reduce_fx="max")  # of parts and of vertices

    def update(
        self,
        camera: Camera,
        mesh: Mesh,
        parts: Float[Tensor, "batch P 2"],
        parts_visible: Bool[Tensor, "batch P"],
        box_side: Float[Tensor, "batch"],
        index: Int[Tensor, "batch"],
    ) -> None:
        """Add a batch of images.

        Args:
            camera: Predicted cameras, in normalized coordinates of the crop.
            mesh: Predicted shapes.
            parts: Annotated parts, in normalized coordinates.
            parts_visible: Which parts are annotated as visible.
            box_side: Longer side of the object's box, in normalized units.
            index: Identity of each image.
        """
        placed = project(mesh.vertices, camera).detach().float()
        finite = placed.isfinite().all((-2, -1))
        vertex = torch.full_like(parts[..., 0], -1, dtype=torch.float32)
        if finite.any():
            known = Mesh(mesh.vertices[finite], mesh.faces)
            vertex[finite] = _shown(placed[finite], vertex_visibility(known, camera.at(finite)), parts[finite])
        entries = (index[:, None], box_side[:, None], parts_visible, vertex, parts.flatten(1), placed.flatten(1))
        # Flat, in float32: torchmetrics gathers a process without images as an empty vector of that type.
        self.records.append(torch.cat([entry.float() for entry in entries], 1).flatten())  # type: ignore[union-attr]
        self.sizes = torch.maximum(self.sizes, self.sizes.new_tensor([parts.shape[1], placed.shape[1]]))

    def compute(self) -> Float[Tensor, ""]:
        """Return the share of correct keypoints over all pairs.

        Returns:
            Share in [0, 1]; NaN with fewer than two images, or when no pair has a visible part in common.
        """
        num_parts, num_vertices = self.sizes.tolist()
        if not num_parts:
            return torch.tensor(torch.nan, device=self.device)
        widths = [1, 1, num_parts, num_parts, 2 * num_parts, 2 * num_vertices]
        records = dim_zero_cat(self.records).reshape(-1, sum(widths))
        records = records[records[:, 0].argsort()]
        first, second = _pairs(len(records), self.num_pairs, self.seed, records.device)
        _, side, visible, vertex, parts, placed = torch.split(records, widths, 1)
        common = (visible[first] * visible[second]).bool()
        wanted = vertex[first].long()
        found = placed.reshape(-1, num_vertices, 2)[second[:, None], wanted]
        distance = (found - parts.reshape(-1, num_parts, 2)[second]).norm(dim=-1)
        correct = (distance <= self.threshold * side[second]) & (wanted >= 0)
        share: Tensor = correct[common].float().mean()
        return share


def _shown(
    placed: Float[Tensor, "batch V 2"], seen: Bool[Tensor, "batch V"], parts: Float[Tensor, "batch P 2"]
) -> Float[Tensor, "batch P"]:
    """Find the vertex that shows nearest to each part; of all when none is in sight."""
    distance = torch.cdist(parts.float(), placed)
    hidden = ~seen & seen.any(-1, keepdim=True)
    return distance.masked_fill(hidden[:, None], torch.inf).argmin(-1).float()


def _pairs(count: int, pairs: int, seed: int, device: torch.device) -> tuple[Int[Tensor, "N"], Int[Tensor, "N"]]:
    """Draw pairs of different images; none of fewer than two."""
    if count < 2:
        none = torch.zeros(0, dtype=torch.long, device=device)
        return none, none
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(count, (pairs,), generator=generator)
    second = (first + torch.randint(1, count, (pairs,), generator=generator)) % count
    return first.to(device), second.to(device)
