"""A small network that finds the pixels of one category, and the segmenter that looks with it."""

import json
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn.functional import grid_sample, interpolate, max_pool2d, pixel_shuffle

from kpose._cropping import crop_image
from kpose._files import read_json, write_file, write_text
from kpose._messages import one_line
from kpose._precision import fast_autocast
from kpose.backbones import Backbone
from kpose.geometry import mask_to_box
from kpose.geometry._mask import connected_regions
from kpose.inference.segmentation.segmenter import Segment, Segmenter
from kpose.recipe import Recorded, build, encode
from kpose.visualization import from_pillow, to_pillow

__all__ = ["SEGMENTER_CONFIG", "SEGMENTER_WEIGHTS", "MaskNetwork", "MaskSegmenter"]

SEGMENTER_CONFIG = "segmenter.json"
SEGMENTER_WEIGHTS = "segmenter.safetensors"

_NEAR = 1.4  # side of the second look, in longer sides of the box
_AT_ONCE = 16  # squares that the network sees together

Square = tuple[float, float, float]
"""Left and upper edge, and side, in pixels of the picture."""


class MaskNetwork(Recorded, nn.Module):
    """Segment the pixels of one category: a backbone and a light decoder.

    The feature maps are brought to one width, added from coarse to fine and refined by separable convolutions; what
    the finest one says is spread over four pixels each.

    Args:
        backbone: Where the features come from; the finest map has a stride of 4 for logits at half resolution.
        width: Channels of the decoder.

    Example:
        >>> from kpose.backbones import EfficientNetLite
        >>> network = MaskNetwork(EfficientNetLite((4, 8, 16, 32)), width=16)
        >>> network(torch.zeros(2, 3, 64, 96)).shape
        torch.Size([2, 32, 48])
    """

    def __init__(self, backbone: Backbone, *, width: int = 48) -> None:
        super().__init__()
        self.backbone = backbone
        self.enter = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in backbone.spec.channels)
        self.refine = nn.ModuleList(_Refinement(width) for _ in backbone.spec.channels)
        self.read = nn.Conv2d(width, 4, 3, padding=1)

    def forward(self, image: Float[Tensor, "batch 3 H W"]) -> Float[Tensor, "batch h w"]:
        """Compute logits of pixels being of the category.

        Args:
            image: RGB in [0, 1]; height and width divisible by the backbone's coarsest stride.

        Returns:
            Logits, two to each cell of the finest feature map along height and width.
        """
        x: Tensor | None = None
        parts = zip(self.backbone(image).maps, self.enter, self.refine, strict=True)
        for fine, enter, refine in reversed(list(parts)):
            entered = enter(fine)
            if x is not None:
                entered = entered + interpolate(x, fine.shape[-2:], mode="bilinear", align_corners=False)
            x = refine(entered)
        return pixel_shuffle(self.read(x), 2)[:, 0]


class _Refinement(nn.Module):
    """Two separable convolutions of 5 × 5 around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [
                nn.Conv2d(width, width, 5, padding=2, groups=width, bias=False),
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU6(),
            ]
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        out: Tensor = x + self.body(x)
        return out


class MaskSegmenter(Recorded, Segmenter):
    """Find the objects of the category that a `MaskNetwork` was trained on, by two looks.

    The first look takes in the whole picture; each connected region that it finds is looked at again from near.

    Args:
        network: Trained network; it is put into evaluation.
        size: Side of the squares that it was trained on, in pixels.
        first_size: Side of the first look, which has to find boxes only and takes a share of the time.
        min_area: Share of the picture under which a region is not looked at.
        max_objects: Regions that are looked at, the largest first.

    Example:
        >>> from kpose.backbones import EfficientNetLite
        >>> segmenter = MaskSegmenter(MaskNetwork(EfficientNetLite((4, 8, 16, 32)), width=16), size=64)
        >>> isinstance(segmenter.segment(torch.rand(3, 48, 80)), list)
        True
    """

    def __init__(
        self,
        network: MaskNetwork,
        *,
        size: int = 256,
        first_size: int = 160,
        min_area: float = 5e-4,
        max_objects: int = 8,
    ) -> None:
        self.network = network.eval()
        self.size = size
        self.first_size = first_size
        self.min_area = min_area
        self.max_objects = max_objects

    def save(self, path: str | PathLike[str], *, half: bool = False) -> None:
        """Write the segmenter into a folder, beside the pose network that it finds objects for.

        Args:
            path: Folder; it is created, and an earlier segmenter in it is replaced.
            half: Write trained weights in float16.
        """
        weights = {
            name: value.half() if half and isinstance(value, nn.Parameter) else value
            for name, value in self.network.state_dict(keep_vars=True).items()
        }
        plain = {name: value.detach().contiguous() for name, value in weights.items()}
        write_file(Path(path) / SEGMENTER_WEIGHTS, lambda fresh: fresh.write_bytes(save(plain)))
        write_text(Path(path) / SEGMENTER_CONFIG, json.dumps(encode(self), indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "MaskSegmenter":
        """Read a folder that `save` has written; nothing but kpose's own classes is imported.

        Args:
            path: Folder.

        Returns:
            Segmenter on the CPU.

        Raises:
            FileNotFoundError: If a file is missing.
            ValueError: If a file is damaged, or is of another segmenter; one line says which.
        """
        try:
            recipe = read_json(Path(path) / SEGMENTER_CONFIG)
            found = build(recipe, trusted_modules=["kpose.inference.segmentation"])
            if not isinstance(found, cls):
                raise TypeError(f"it describes a {type(found).__name__}")
            found.network.load_state_dict(load_file(Path(path) / SEGMENTER_WEIGHTS))
        except (SafetensorError, RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise ValueError(
                f"{path} holds no segmenter of kpose ({one_line(error)[:300]}). Save it again."
            ) from error
        return found

    def segment(self, image: Float[Tensor, "3 H W"]) -> list[Segment]:
        """Find the objects; see `Segmenter.segment`. A score is the mean probability of the mask's pixels."""
        return self.segment_all([image])[0]

    @torch.no_grad()
    def segment_all(self, images: Sequence[Float[Tensor, "3 _ _"]]) -> list[list[Segment]]:
        """Find the objects in several pictures, which the network sees together."""
        pictures = [to_pillow(image) for image in images]
        wholes = [_whole(image) for image in images]
        firsts = self._look(list(zip(pictures, wholes, strict=True)), self.first_size)
        regions = [self._regions(*pair) for pair in zip(firsts, images, strict=True)]
        near = [
            (number, region, _square_around(region, wholes[number]))
            for number, found in enumerate(regions)
            for region in found
        ]
        seconds = self._look([(pictures[number], square) for number, _, square in near], self.size)
        segments: list[list[Segment]] = [[] for _ in images]
        for (number, region, square), seen in zip(near, seconds, strict=True):
            before = _sample(region.float(), wholes[number], *_centers(square, seen.shape[-1])) > 0.5
            kept = [one for one in _split(seen > 0.5) if (one & before).any()]
            if kept:
                mask = seen * torch.stack(kept).any(0)
                score = float(mask[mask > 0.5].mean())
                pixels = (torch.arange(n) + 0.5 for n in reversed(images[number].shape[-2:]))
                segments[number].append(Segment(_sample(mask, square, *pixels).to(images[number].device), score))
        return [sorted(found, key=lambda one: -one.score * float(one.mask.sum()) ** 0.5) for found in segments]

    def _regions(self, first: Tensor, image: Tensor) -> list[Bool[Tensor, "h w"]]:
        """Return the regions of the first look that deserve a second one, the largest first."""
        least = self.min_area * first.numel() * image[0].numel() / max(image.shape[-2:]) ** 2
        found = [region for region in _split(first > 0.5) if region.sum() >= least]
        return sorted(found, key=lambda region: -int(region.sum()))[: self.max_objects]

    def _look(self, squares: Sequence[tuple[Image.Image, Square]], size: int) -> list[Float[Tensor, "h w"]]:
        """Compute the probabilities of what squares of pictures show, on the CPU."""
        device = next(self.network.parameters()).device
        seen: list[Tensor] = []
        for start in range(0, len(squares), _AT_ONCE):
            crops = [
                from_pillow(crop_image(picture, (x, y, x + side, y + side), size))
                for picture, (x, y, side) in squares[start : start + _AT_ONCE]
            ]
            with fast_autocast(self.network):
                logits: Tensor = self.network(torch.stack(crops).to(device))
            seen += logits.float().sigmoid().cpu()
        return seen


def _whole(image: Tensor) -> Square:
    """Return the square around a picture."""
    height, width = image.shape[-2:]
    side = float(max(height, width))
    return (width - side) / 2, (height - side) / 2, side


def _centers(square: Square, count: int) -> tuple[Float[Tensor, "w"], Float[Tensor, "h"]]:
    """Return where in the picture the centers of a square's cells are."""
    left, top, side = square
    steps = (torch.arange(count) + 0.5) * side / count
    return left + steps, top + steps


def _sample(
    seen: Float[Tensor, "h w"], square: Square, x: Float[Tensor, "W"], y: Float[Tensor, "H"]
) -> Float[Tensor, "H W"]:
    """Read what a square shows at columns and rows of the picture; nothing outside of it."""
    left, top, side = square
    places = torch.meshgrid(2 * (x - left) / side - 1, 2 * (y - top) / side - 1, indexing="xy")
    grid = torch.stack(places, -1).to(seen)
    read = grid_sample(seen[None, None], grid[None], padding_mode="border", align_corners=False)[0, 0]
    return read * (grid.abs() <= 1).all(-1)


def _split(mask: Bool[Tensor, "h w"]) -> list[Bool[Tensor, "h w"]]:
    """Split a mask into its connected regions, told apart at half its resolution."""
    coarse = max_pool2d(mask.float()[None], 2, ceil_mode=True)[0] > 0
    labels = connected_regions(coarse).repeat_interleave(2, 0).repeat_interleave(2, 1)
    fine = labels[: mask.shape[0], : mask.shape[1]] * mask
    return [fine == label for label in range(1, int(labels.max()) + 1)]


def _square_around(region: Bool[Tensor, "h w"], whole: Square) -> Square:
    """Return the square of the second look at a region of what the whole square shows."""
    box = mask_to_box(region)
    assert box is not None
    cell = whole[2] / len(region)
    left, top, right, bottom = (whole[place % 2] + cell * edge for place, edge in enumerate(box))
    side = _NEAR * max(right - left, bottom - top)
    return (left + right - side) / 2, (top + bottom - side) / 2, side
