"""Synthetic birds with exact labels: a data set rendered by kpose itself, and its Lightning data module."""

import hashlib
import logging
import os
from multiprocessing.pool import ThreadPool
from pathlib import Path

import torch
from jaxtyping import Int
from pytorch_lightning import LightningDataModule
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler
from tqdm import tqdm

from kpose.data.bird_pictures import render_birds
from kpose.data.photo_datamodule import check_sizes
from kpose.data.transforms import RandomColor, RandomFlip, mirror_names
from kpose.files import write_file
from kpose.geometry import box_to_crop
from kpose.structures import Batch, Camera, Template
from kpose.templates import bird

__all__ = ["SyntheticBirdsDataModule", "SyntheticBirdsDataset"]

_VERSION = 1  # raise it whenever the same seed and index would give another picture
_BLOCK = 32  # pictures rendered, stored and checked together
_MAX_THREADS = 8  # a block takes a few hundred megabytes while it is rendered
_VAL_START = 1 << 24  # picture numbers at which the other splits begin
_TEST_START = 2 << 24

_log = logging.getLogger(__name__)


class SyntheticBirdsDataset(Dataset[Batch]):
    """Pictures of random birds with exact camera, shape, silhouette and parts.

    A picture depends on ``seed``, ``image_size`` and its number alone: not on ``num_images``, nor on the order in
    which pictures are asked for. Pictures are rendered in blocks of 32 when they are first needed, or all at once,
    with a progress bar, by `prepare`, and kept in files that later runs and loader workers map into memory. A file
    that cannot be read, or that is not what it should be, is rendered again.

    Items are unbatched `Batch` entries: image, mask, camera (normalised), vertices, parts, parts_visible, crop (of
    a photo of ``image_size`` pixels), flipped and index.

    Args:
        num_images: Number of pictures.
        image_size: Side of a picture, in pixels.
        seed: Seed of the pictures, not negative.
        start: Number of the first picture, a multiple of 32: sets of disjoint ranges share no picture.
        cache_dir: Folder of the rendered files; ``kpose`` in the user's cache folder when None.
        template: Bird with CUB's part names; the built-in one when None.
        variety: How much the birds differ in colour, from 0 (one kind of bird) to 1 (any).

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
        if num_images < 1 or image_size < 1:
            raise ValueError(
                f"SyntheticBirdsDataset needs at least one picture of one pixel; got {num_images} of {image_size}. "
                "Raise them."
            )
        if seed < 0 or start < 0 or start % _BLOCK:
            raise ValueError(
                f"SyntheticBirdsDataset needs a seed from 0 and a start that is a multiple of {_BLOCK}; got seed "
                f"{seed} and start {start}. Change them."
            )
        if not 0 <= variety <= 1:
            raise ValueError(f"SyntheticBirdsDataset needs a variety from 0 to 1; got {variety}. Change it.")
        self.num_images = num_images
        self.image_size = image_size
        self.seed = seed
        self.variety = variety
        self.start = start
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir)
        self.template = bird() if template is None else template
        self._blocks: dict[int, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        """Count the pictures."""
        return self.num_images

    def __getitem__(self, index: int) -> Batch:
        """Give a picture with its labels."""
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
        first, last = self.start // _BLOCK, (self.start + self.num_images - 1) // _BLOCK
        missing = [block for block in range(first, last + 1) if self._stored(block) is None]
        if not missing:
            return
        # The operations are small: blocks side by side, one thread each, take half the time of threads within them.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPool(min(threads, len(missing), _MAX_THREADS)) as pool:
                done = pool.imap_unordered(self._render, missing)
                bar = tqdm(desc="Rendering birds", total=_BLOCK * len(missing), unit=" img", disable=not progress)
                with bar:
                    for _ in done:
                        bar.update(_BLOCK)
        finally:
            torch.set_num_threads(threads)

    def _block(self, number: int) -> dict[str, Tensor]:
        if number not in self._blocks:
            stored = self._stored(number)
            self._blocks[number] = self._render(number) if stored is None else stored
        return self._blocks[number]

    def _stored(self, number: int) -> dict[str, Tensor] | None:
        """Map a file into memory, or give None if there is no sound one."""
        path = self._path(number)
        if not path.exists():
            return None
        size, vertices = self.image_size, len(self.template.vertices)
        try:
            block: dict[str, Tensor] = load_file(path)
            sound = (
                block["image"].shape == (_BLOCK, 3, size, size)
                and block["mask"].shape == (_BLOCK, size, size)
                and block["vertices"].shape == (_BLOCK, vertices, 3)
                and block.keys() == _ENTRIES
            )
        except (SafetensorError, OSError, KeyError) as error:
            _log.warning("%s cannot be read (%s) and is rendered again.", path, error)
            return None
        return block if sound else None

    def _render(self, number: int) -> dict[str, Tensor]:
        """Render a block and store it, under another name until it is complete."""
        indices = range(number * _BLOCK, (number + 1) * _BLOCK)
        block = render_birds(self.template, indices, self.image_size, seed=self.seed, variety=self.variety)
        tensors = {name: entry.contiguous() for name, entry in block.items()}
        write_file(self._path(number), lambda fresh: save_file(tensors, fresh))
        return block

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.safetensors"

    def __getstate__(self) -> dict[str, object]:
        """Leave the mapped files out: workers map them themselves."""
        return {**self.__dict__, "_blocks": {}}


_ENTRIES = {"image", "mask", "vertices", "scale", "translation", "rotation", "parts", "parts_visible"}


class SyntheticBirdsDataModule(LightningDataModule):
    """Loaders of synthetic birds: a training, a validation and a test set without common pictures.

    All is rendered once, when first needed, and stored (see `SyntheticBirdsDataset`). Training batches are mirrored
    and recoloured at random after they have reached the device; what is drawn depends on the seed of
    ``seed_everything`` and the step alone.

    Args:
        num_train: Number of training pictures, at most 2²⁴.
        num_val: Number of validation pictures.
        num_test: Number of test pictures.
        image_size: Side of the pictures, in pixels.
        batch_size: Images of a batch.
        num_workers: Processes that load images; 0 loads in the main process.
        seed: Seed of the pictures, not negative.
        cache_dir: Folder of the rendered files; ``kpose`` in the user's cache folder when None.
        flip: Share of training images that is mirrored.
        color: Strength of the random change of colours in training (see `RandomColor`); 0 changes none.
        variety: How much the birds differ in colour, from 0 (one kind of bird) to 1 (any).

    Raises:
        ValueError: If a number of pictures is not positive or too large, ``image_size`` or ``batch_size`` is not
            positive, or ``num_workers`` is negative.
    """

    def __init__(
        self,
        *,
        num_train: int = 2000,
        num_val: int = 200,
        num_test: int = 200,
        image_size: int = 128,
        batch_size: int = 32,
        num_workers: int = 0,
        seed: int = 0,
        cache_dir: Path | None = None,
        flip: float = 0.5,
        color: float = 0.2,
        variety: float = 1.0,
    ) -> None:
        super().__init__()
        if max(num_train, num_val, num_test) > _VAL_START:
            raise ValueError(
                f"SyntheticBirdsDataModule needs sets of at most {_VAL_START} pictures; got {num_train}, {num_val} "
                f"and {num_test}. Lower them."
            )
        check_sizes(self, image_size=image_size, batch_size=batch_size, num_workers=num_workers)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.image_size = image_size
        self.flip = flip
        self.color = color
        self.test_split = "test"
        counts = {"train": (num_train, 0), "val": (num_val, _VAL_START), "test": (num_test, _TEST_START)}
        self.datasets = {
            split: SyntheticBirdsDataset(
                count, image_size, seed=seed, start=start, cache_dir=cache_dir, variety=variety
            )
            for split, (count, start) in counts.items()
        }
        self._augmentation: nn.Module | None = None
        self._seed = 0

    def dataset(self, split: str, *, train: bool = False) -> SyntheticBirdsDataset:
        """Give the data set of a split, the same object every time.

        Args:
            split: ``train``, ``val`` or ``test``.
            train: Whether it is for training; its pictures are those of an evaluation all the same.

        Returns:
            The data set.
        """
        return self.datasets[split]

    def prepare_data(self) -> None:
        """Render the pictures that are not stored yet, with a progress bar."""
        for dataset in self.datasets.values():
            dataset.prepare()

    def setup(self, stage: str) -> None:
        """Take note of the seed.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        self._seed = torch.initial_seed() % 2**31

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of training pictures, in random order."""
        dataset = self.datasets["train"]
        ranks = (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)
        # Lightning tells this sampler the epoch, also after a resume; it draws its order from seed and epoch.
        sampler = DistributedSampler[Batch](dataset, *ranks, shuffle=True, seed=self._seed)
        return self._loader("train", sampler=sampler, drop_last=len(dataset) >= self.batch_size * ranks[0])

    def val_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of validation pictures, in order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of test pictures, in order."""
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of test pictures, in order."""
        return self._loader("test")

    def augment(self, batch: Batch, *, seed: int) -> Batch:
        """Do to a batch of the training loader what training does to it.

        Args:
            batch: Batch of the training loader.
            seed: Decides what is drawn; the global random state is not touched.

        Returns:
            The batch, some images mirrored, all recoloured.
        """
        if self._augmentation is None:
            template = self.datasets["train"].template
            flip = RandomFlip(
                self.flip, part_mirror=mirror_names(template.part_names), vertex_mirror=template.mirror
            )
            self._augmentation = nn.Sequential(flip, *([RandomColor(self.color)] if self.color else []))
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            augmented: Batch = self._augmentation(batch)
        return augmented

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment batches of the training loader.

        Args:
            batch: Batch on its device.
            dataloader_idx: Number of the loader.

        Returns:
            The batch, augmented when training.
        """
        trainer = self.trainer
        if trainer is None or not trainer.training:
            return batch
        # Distinct for every step and rank of a run; a Weyl step keeps the streams of neighbours apart.
        place = (trainer.fit_loop.total_batch_idx + 1) * trainer.world_size + trainer.global_rank
        return self.augment(batch, seed=(self._seed + 0x9E3779B97F4A7C15 * place) % 2**63)

    def _loader(
        self, split: str, *, sampler: DistributedSampler[Batch] | None = None, drop_last: bool = False
    ) -> DataLoader[Batch]:
        return DataLoader(
            self.datasets[split],
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            drop_last=drop_last,
        )


def default_cache_dir() -> Path:
    """Give kpose's folder in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "kpose"
