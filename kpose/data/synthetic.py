"""Synthetic birds with exact labels: a data set rendered by kpose itself, and its Lightning data module."""

import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from kpose._files import write_file
from kpose._limits import check_side
from kpose.data._transforms import RandomColor, RandomFlip, mirror_names
from kpose.data.augmented_datamodule import AugmentedDataModule
from kpose.data.bird_pictures import render_birds
from kpose.geometry import box_to_crop
from kpose.structures import Batch, Camera, Domain, Template
from kpose.templates import bird

__all__ = ["SyntheticBirdsDataModule", "SyntheticBirdsDataset"]

_VERSION = 1  # raise it whenever the same seed and index would give another picture
_BLOCK = 32  # pictures rendered, stored and checked together
_MAX_THREADS = 8  # a block takes a few hundred megabytes while it is rendered
_VAL_START = 1 << 24  # picture numbers at which the other splits begin
_TEST_START = 2 << 24
_ENTRIES = {"image", "mask", "vertices", "scale", "translation", "rotation", "parts", "parts_visible"}

_log = logging.getLogger(__name__)


class SyntheticBirdsDataset(Dataset[Batch]):
    """Pictures of random birds with exact camera, shape, silhouette and parts.

    A picture depends on ``seed``, ``image_size`` and its number alone: not on ``num_images``, nor on the order in
    which pictures are asked for. Pictures are rendered in blocks of 32 when they are first needed, or all at once,
    with a progress bar, by `prepare`, and kept in files that later runs and loader workers map into memory. A file
    that cannot be read, or that is not what it should be, is rendered again.

    Items are unbatched `Batch` entries: image, mask, camera (normalized), vertices, parts, parts_visible, crop (of
    a photo of ``image_size`` pixels), flipped and index.

    Args:
        num_images: Number of pictures.
        image_size: Side of a picture, in pixels.
        seed: Seed of the pictures, not negative.
        start: Number of the first picture, a multiple of 32: sets of disjoint ranges share no picture.
        cache_dir: Folder of the rendered files; ``kpose`` in the user's cache folder when None.
        template: Bird with CUB's part names; the built-in one when None.
        variety: How much the birds differ in color, from 0 (one kind of bird) to 1 (any).

    Raises:
        ValueError: If ``num_images`` or ``image_size`` is not positive, or ``seed``, ``start`` or ``variety`` does
            not fit.

    Example:
        >>> dataset = SyntheticBirdsDataset(2000, image_size=128)
        >>> len(dataset)
        2000
    """

    def __init__(
        self,
        num_images: int,
        image_size: int = 128,
        *,
        seed: int = 0,
        start: int = 0,
        cache_dir: Path | str | None = None,
        template: Template | None = None,
        variety: float = 1.0,
    ) -> None:
        check_side(image_size, "SyntheticBirdsDataset")
        if num_images < 1 or seed < 0 or start < 0 or start % _BLOCK or not 0 <= variety <= 1:
            raise ValueError(
                f"SyntheticBirdsDataset needs at least one picture, a seed from 0, a start that is a multiple of "
                f"{_BLOCK} and a variety from 0 to 1; got {num_images}, seed {seed}, start {start} and variety "
                f"{variety}. Change them."
            )
        self.num_images = num_images
        self.image_size = image_size
        self.seed = seed
        self.variety = variety
        self.start = start
        self.cache_dir = _default_cache_dir() if cache_dir is None else Path(cache_dir)
        self.template = bird() if template is None else template
        self._blocks: dict[int, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        """Count the pictures."""
        return self.num_images

    def __getitem__(self, index: int) -> Batch:
        """Return a picture with its labels."""
        if not 0 <= index < self.num_images:
            raise IndexError(f"SyntheticBirdsDataset has {self.num_images} pictures; got index {index}.")
        number = self.start + index
        block, row = self._block(number // _BLOCK), number % _BLOCK
        return {
            "image": block["image"][row].float() / 255,
            "mask": block["mask"][row].bool(),
            "camera": Camera(block["scale"][row], block["translation"][row], block["rotation"][row]),
            "vertices": block["vertices"][row],
            "parts": block["parts"][row] * block["parts_visible"][row][:, None],
            "parts_visible": block["parts_visible"][row].bool(),
            "crop": box_to_crop(torch.tensor([0.0, 0.0, self.image_size, self.image_size])),
            "flipped": torch.tensor(False),
            "index": torch.tensor(number),
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Numbers of the pictures as text, in the order of the items."""
        return tuple(str(self.start + item) for item in range(self.num_images))

    @property
    def indices(self) -> Int[Tensor, "N"]:
        """The ``index`` of each item."""
        return torch.arange(self.start, self.start + self.num_images)

    @property
    def folder(self) -> Path:
        """Folder of this data set's files; its name is a digest of all that decides the pictures."""
        kind = "" if self.variety == 1 else f" {self.variety}"
        digest = hashlib.sha256(f"{_VERSION} {_BLOCK} {self.image_size} {self.seed}{kind}".encode())
        for part in (self.template.vertices, self.template.faces, self.template.part_vertices):
            digest.update(part.contiguous().numpy().tobytes())
        return self.cache_dir / f"birds-{digest.hexdigest()[:16]}"

    def prepare(self, *, progress: bool = True) -> None:
        """Render what is not stored yet.

        Args:
            progress: Whether to show a progress bar, if there is anything to render.
        """
        blocks = range(self.start // _BLOCK, (self.start + self.num_images - 1) // _BLOCK + 1)
        missing = [block for block in blocks if self._stored(block) is None]
        if not missing:
            return
        # The operations are small: blocks side by side, one thread each, take half the time of threads within them.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            bar = tqdm(desc="Rendering birds", total=_BLOCK * len(missing), unit=" img", disable=not progress)
            with ThreadPoolExecutor(min(threads, len(missing), _MAX_THREADS)) as pool, bar:
                try:
                    for done in as_completed([pool.submit(self._render, block) for block in missing]):
                        done.result()
                        bar.update(_BLOCK)
                finally:  # after Ctrl-C, a thread that is left inside of torch would abort the process
                    pool.shutdown(cancel_futures=True)
        finally:
            torch.set_num_threads(threads)

    def _block(self, number: int) -> dict[str, Tensor]:
        if number not in self._blocks:
            self._blocks[number] = self._stored(number) or self._render(number)
        return self._blocks[number]

    def _stored(self, number: int) -> dict[str, Tensor] | None:
        """Map a file into memory; None if there is no sound one."""
        path = self._path(number)
        if not path.exists():
            return None
        try:
            block: dict[str, Tensor] = load_file(path)
        except (SafetensorError, OSError) as error:
            _log.warning("%s cannot be read (%s) and is rendered again.", path, error)
            return None
        size, vertices = self.image_size, len(self.template.vertices)
        shapes = {"image": (3, size, size), "mask": (size, size), "vertices": (vertices, 3)}
        sound = block.keys() == _ENTRIES and all(
            block[name].shape == (_BLOCK, *shape) for name, shape in shapes.items()
        )
        return block if sound else None

    def _render(self, number: int) -> dict[str, Tensor]:
        """Render a block and store it, under another name until it is complete."""
        indices = range(number * _BLOCK, (number + 1) * _BLOCK)
        block = render_birds(self.template, indices, self.image_size, seed=self.seed, variety=self.variety)
        tensors = {name: entry.contiguous() for name, entry in block.items()}
        write_file(self._path(number), lambda fresh: fresh.write_bytes(save(tensors)))
        return block

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.safetensors"

    def __getstate__(self) -> dict[str, object]:
        """Leave the mapped files out: workers map them again."""
        return {**self.__dict__, "_blocks": {}}


class SyntheticBirdsDataModule(AugmentedDataModule):
    """Loaders of synthetic birds: a training, a validation and a test set without common pictures.

    All is rendered once, when first needed, and stored (see `SyntheticBirdsDataset`). Training batches are mirrored
    and recolored at random after they have reached the device (see `AugmentedDataModule`).

    Args:
        num_train: Number of training pictures, at most 2²⁴.
        num_val: Number of validation pictures.
        num_test: Number of test pictures.
        image_size: Side of the pictures, in pixels.
        batch_size: Images of a batch.
        num_workers: Processes that load images; see `AugmentedDataModule`.
        seed: Seed of the pictures, not negative.
        cache_dir: Folder of the rendered files; ``kpose`` in the user's cache folder when None.
        flip: Share of training images that is mirrored.
        color: Strength of the random change of colors in training (see `RandomColor`); 0 changes none.
        variety: How much the birds differ in color, from 0 (one kind of bird) to 1 (any).

    Raises:
        ValueError: If a number of pictures is not positive or too large, ``image_size`` or ``batch_size`` is not
            positive, or ``num_workers`` is negative.

    Example:
        >>> SyntheticBirdsDataModule(num_train=400, image_size=64)
        SyntheticBirdsDataModule(400 train, 200 val, 200 test; 64 px, batches of 32)
    """

    def __init__(
        self,
        *,
        num_train: int = 2000,
        num_val: int = 200,
        num_test: int = 200,
        image_size: int = 128,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
        cache_dir: Path | None = None,
        flip: float = 0.5,
        color: float = 0.2,
        variety: float = 1.0,
    ) -> None:
        super().__init__(image_size=image_size, batch_size=batch_size, num_workers=num_workers)
        if max(num_train, num_val, num_test) > _VAL_START:
            raise ValueError(
                f"SyntheticBirdsDataModule needs sets of at most {_VAL_START} pictures; got {num_train}, {num_val} "
                f"and {num_test}. Lower them."
            )
        self.num_train = num_train
        self.num_val = num_val
        self.num_test = num_test
        self.seed = seed
        self.cache_dir = cache_dir
        self.flip = flip
        self.color = color
        self.variety = variety
        starts = {"train": 0, "val": _VAL_START, "test": _TEST_START}
        self._datasets = {
            split: SyntheticBirdsDataset(
                count, image_size, seed=seed, start=starts[split], cache_dir=cache_dir, variety=variety
            )
            for split, count in self.split_sizes.items()
        }

    @property
    def domain(self) -> Domain:
        """What a network learns here."""
        return Domain("rendered birds", "bird", "kpose's own birds")

    @property
    def split_sizes(self) -> dict[str, int]:
        """Number of images of each split."""
        return {"train": self.num_train, "val": self.num_val, "test": self.num_test}

    def dataset(self, split: str, *, train: bool = False) -> SyntheticBirdsDataset:
        """Return the data set of a split; its pictures are the same with and without ``train``."""
        return self._datasets[split]

    def prepare_data(self) -> None:
        """Render the pictures that are not stored yet, with a progress bar."""
        for dataset in self._datasets.values():
            dataset.prepare()

    def new_augmentation(self) -> nn.Module:
        """Return flips and changes of color; see `AugmentedDataModule.new_augmentation`."""
        template = self._datasets["train"].template
        flip = RandomFlip(self.flip, part_mirror=mirror_names(template.part_names), vertex_mirror=template.mirror)
        return nn.Sequential(flip, *([RandomColor(self.color)] if self.color else []))


def _default_cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "kpose"
