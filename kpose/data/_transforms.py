"""Random changes of whole batches that keep image, mask, parts, camera and crop consistent.

Positions are resampled with ``affine_grid`` and ``grid_sample`` of torch, ``align_corners=False``: kornia's warps
build their matrices on the grid whose corner pixels' centers are ±1, half a pixel from the convention here.
Changes of color are kornia's.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from kornia.augmentation import ColorJiggle
from torch import Tensor, nn

from kpose.geometry import apply_crop, crop_camera, flip_camera, mirror_points
from kpose.structures import Batch, Crop

__all__ = ["RandomColor", "RandomCropJitter", "RandomFlip", "flip_batch", "mirror_names", "recrop_batch"]


def mirror_names(names: Sequence[str]) -> tuple[int, ...]:
    """Find the mirror partner of each part by its name: ``left ...`` and ``right ...`` change places.

    Args:
        names: Part names.

    Returns:
        For each part, the place of its partner; its own place if the name has no side.

    Raises:
        ValueError: If a partner is missing.

    Example:
        >>> mirror_names(("left eye", "beak", "right eye"))
        (2, 1, 0)
    """
    sides = {"left": "right", "right": "left"}
    partners = [" ".join(sides.get(word, word) for word in name.split()) for name in names]
    if missing := [name for name in partners if name not in names]:
        raise ValueError(f"mirror_names needs both sides of every part; {missing} are missing. Add them.")
    return tuple(list(names).index(name) for name in partners)


def recrop_batch(batch: Batch, crop: Crop, size: int, *, fill: float = 1.0) -> Batch:
    """Crop the crops of a batch again; entries other than image, mask, parts, camera and crop are kept.

    A crop maps present normalized coordinates to new ones. Outside the present crop images have the value ``fill``
    and masks are false. Parts that leave the crop stay visible, with coordinates beyond ±1.
    """
    result = batch.copy()
    # The grid asks for old coordinates of new pixels: u_old = (u_new - translation) / scale.
    linear = torch.diag_embed(crop.scale.reciprocal()[:, None].expand(-1, 2))
    theta = torch.cat((linear, (-crop.translation / crop.scale[:, None])[..., None]), -1)
    shape = [theta.shape[0], 1, size, size]
    grid = torch.nn.functional.affine_grid(theta, shape, align_corners=False)
    if "image" in batch:
        result["image"] = _sample(batch["image"] - fill, grid) + fill
    if "mask" in batch:
        result["mask"] = _sample(batch["mask"][:, None].to(grid), grid)[:, 0] > 0.5
    if "parts" in batch:
        parts = apply_crop(batch["parts"], crop)
        result["parts"] = torch.where(batch["parts_visible"][..., None], parts, 0.0)
    if "camera" in batch:
        result["camera"] = crop_camera(batch["camera"], crop)
    if "crop" in batch:
        result["crop"] = _compose(batch, crop)
    return result


def flip_batch(
    batch: Batch,
    where: Bool[Tensor, "batch"],
    *,
    part_mirror: Sequence[int] | None = None,
    vertex_mirror: Int[Tensor, "V"] | None = None,
) -> Batch:
    """Mirror some images of a batch with everything that belongs to them.

    Args:
        batch: Batch; ``crop`` and ``index`` stay, ``flipped`` says that the mirror comes after the crop.
        where: Which images to mirror.
        part_mirror: For each part, the place of its mirror partner (see `mirror_names`); needed if there are parts.
        vertex_mirror: For each vertex, its mirror partner; needed if there are vertices.

    Returns:
        A new batch.

    Raises:
        ValueError: If a mirror that is needed is not given.

    Example:
        >>> flip_batch({"mask": torch.tensor([[[True, False]]])}, torch.tensor([True]))["mask"]
        tensor([[[False,  True]]])
    """
    result = batch.copy()
    if "image" in batch:
        result["image"] = torch.where(where[:, None, None, None], batch["image"].flip(-1), batch["image"])
    if "mask" in batch:
        result["mask"] = torch.where(where[:, None, None], batch["mask"].flip(-1), batch["mask"])
    if "parts" in batch:
        order = _needed(part_mirror, "part_mirror", "parts")
        swapped = mirror_points(_ordered(batch["parts"], order))
        # + 0.0 turns the −0 of parts that are not visible into 0.
        result["parts"] = torch.where(where[:, None, None], swapped, batch["parts"]) + 0.0
        visible = batch["parts_visible"]
        result["parts_visible"] = torch.where(where[:, None], _ordered(visible, order), visible)
    if "vertices" in batch:
        order = _needed(vertex_mirror, "vertex_mirror", "vertices")
        mirrored = mirror_points(_ordered(batch["vertices"], order))
        result["vertices"] = torch.where(where[:, None, None], mirrored, batch["vertices"])
    if "camera" in batch:
        result["camera"] = flip_camera(batch["camera"]).where(where, batch["camera"])
    result["flipped"] = where ^ batch["flipped"] if "flipped" in batch else where
    return result


class RandomCropJitter(nn.Module):
    """Crop a batch of generous crops down to the working size, with a random shift and size.

    The edges of the box are moved as U-CMR does: each independently and uniformly by up to ``jitter`` of the box;
    the result is a square, so the longer side's two edges give its size and center and the other two its center on
    the other axis. Here all are measured by the longer side.

    Args:
        size: Side of the result, in pixels.
        padding: How far the edges lie outside the box on average, as a share of the box's longer side.
        jitter: Largest movement of an edge, as a share of the longer side.
        margin: How far the edges of the crops that come in lie outside the box, in the same share. From
            ``padding + 2 * jitter`` on, no crop reaches beyond them.
        fill: Value of image pixels beyond them.

    Source:
        Goel et al., Shape and Viewpoint without Keypoints, ECCV 2020 (released code: 0.05, 0.05).

    Example:
        >>> still = RandomCropJitter(2, padding=0.0, jitter=0.0, margin=0.5)
        >>> still({"image": torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)})["image"][0, 0]
        tensor([[ 5.,  6.],
                [ 9., 10.]])
    """

    def __init__(
        self, size: int, *, padding: float = 0.05, jitter: float = 0.05, margin: float = 0.15, fill: float = 1.0
    ) -> None:
        super().__init__()
        self.size = size
        self.padding = padding
        self.jitter = jitter
        self.margin = margin
        self.fill = fill

    def forward(self, batch: Batch) -> Batch:
        """Crop each image of a batch by its own random box."""
        image = batch["image"]
        # Drawn on the CPU, so that every device gives the same crops.
        left, right, top, bottom = (torch.rand(4, len(image)) * 2 - 1).to(image, non_blocking=True) * self.jitter
        whole = 1 + 2 * self.margin
        side = (1 + 2 * self.padding + left + right) / whole
        # The other axis has its own two draws, of which only the shift remains in a square.
        center = torch.stack((right - left, bottom - top), -1) / whole
        return recrop_batch(batch, Crop(1 / side, -center / side[:, None]), self.size, fill=self.fill)


class RandomFlip(nn.Module):
    """Mirror random images of a batch with everything that belongs to them (see `flip_batch`).

    Args:
        probability: Share of the images that is mirrored.
        part_mirror: For each part, the place of its mirror partner.
        vertex_mirror: For each vertex, its mirror partner.

    Example:
        >>> RandomFlip(1.0)({"image": torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)})["image"][0, 0]
        tensor([[1., 0.]])
    """

    vertex_mirror: Tensor | None

    def __init__(
        self,
        probability: float = 0.5,
        *,
        part_mirror: Sequence[int] | None = None,
        vertex_mirror: Int[Tensor, "V"] | None = None,
    ) -> None:
        super().__init__()
        self.probability = probability
        self.part_mirror = None if part_mirror is None else tuple(part_mirror)
        self.register_buffer("vertex_mirror", vertex_mirror, persistent=False)

    def forward(self, batch: Batch) -> Batch:
        """Mirror each image of a batch or not."""
        image = batch["image"]
        where = (torch.rand(len(image)) < self.probability).to(image.device, non_blocking=True)
        return flip_batch(batch, where, part_mirror=self.part_mirror, vertex_mirror=self.vertex_mirror)


class RandomColor(nn.Module):
    """Change brightness, contrast, saturation and hue of each image at random, by kornia.

    Args:
        strength: Largest relative change of brightness, contrast and saturation, in [0, 1]; the hue turns by up to
            a tenth of it, as a share of the circle.

    Example:
        >>> RandomColor(0.2)({"image": torch.rand(2, 3, 4, 4)})["image"].shape
        torch.Size([2, 3, 4, 4])
    """

    def __init__(self, strength: float = 0.2) -> None:
        super().__init__()
        self.jiggle = ColorJiggle(strength, strength, strength, strength / 10, p=1.0)

    def forward(self, batch: Batch) -> Batch:
        """Change the colors of a batch."""
        return {**batch, "image": self.jiggle(batch["image"])}


def _sample(image: Tensor, grid: Tensor) -> Tensor:
    return torch.nn.functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _compose(batch: Batch, crop: Crop) -> Crop:
    """Append a crop to those of a batch; for mirrored images its mirror image comes before the flip."""
    first, shift = batch["crop"], crop.translation
    if "flipped" in batch:
        shift = shift * torch.stack((1 - 2 * batch["flipped"].to(shift), torch.ones_like(shift[:, 0])), -1)
    return Crop(first.scale * crop.scale, first.translation * crop.scale[:, None] + shift)


def _needed(mirror: Sequence[int] | Tensor | None, name: str, entry: str) -> Sequence[int] | Tensor:
    if mirror is None:
        raise ValueError(f"flip_batch needs {name} for a batch with {entry}; got None. Pass the mirror partners.")
    return mirror


def _ordered(field: Tensor, order: Sequence[int] | Tensor) -> Tensor:
    if isinstance(order, Tensor):
        return field[:, order.to(field.device)]
    return torch.stack([field[:, k] for k in order], 1)  # a list would be sent to the device
