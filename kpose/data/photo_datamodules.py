"""Data modules of photographs: cropped, jittered, mirrored and recolored."""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from kpose.data._transforms import RandomColor, RandomCropJitter, RandomFlip, mirror_names
from kpose.data.augmented_datamodule import AugmentedDataModule
from kpose.data.cub import CUBAnnotations, CUBDataset, read_cub
from kpose.data.folder import FolderAnnotations, FolderDataset, read_folder
from kpose.data.photo_dataset import PhotoDataset
from kpose.structures import Domain

__all__ = ["CUBDataModule", "FolderDataModule", "PhotoDataModule"]


class PhotoDataModule(AugmentedDataModule):
    """Loaders of cropped photos; a subclass says where the photos and their annotations come from.

    Training loaders give crops that are larger than ``image_size`` by the room that the jitter needs; the trainer
    cuts them down, jittered, mirrored and recolored, after the batch has reached the device (see
    `AugmentedDataModule`).

    Args:
        image_size: Side of the images that networks see, in pixels.
        batch_size: Images of a batch.
        num_workers: Processes that load images; see `AugmentedDataModule`.
        test_split: Split that ``test`` and ``predict`` use: ``train``, ``val`` or ``test``.
        padding: How far a training crop's edges lie outside the object's box on average, as a share of the box's
            longer side.
        jitter: Largest random movement of each edge in training, in the same share.
        eval_padding: Padding of validation and test crops (U-CMR's benchmark: 0; CMR's and UMR's: 0.05).
        flip: Share of training images that is mirrored.
        color: Strength of the random change of colors in training (see `RandomColor`); 0 changes none.
        fill: Gray value outside the photo, in [0, 1].
        cache: Whether decoded crops are kept in memory; a folder keeps them on disk for later runs too.

    Raises:
        ValueError: If ``image_size`` or ``batch_size`` is not positive, or ``num_workers`` is negative.

    Example:
        >>> module = FolderDataModule(Path("photos"), image_size=128, padding=0.1, flip=0.0)  # a subclass
        >>> module.image_size, module.padding, module.flip
        (128, 0.1, 0.0)
    """

    def __init__(
        self,
        *,
        image_size: int = 256,
        batch_size: int = 32,
        num_workers: int | None = None,
        test_split: str = "val",
        padding: float = 0.05,
        jitter: float = 0.05,
        eval_padding: float = 0.05,
        flip: float = 0.5,
        color: float = 0.0,
        fill: float = 1.0,
        cache: bool | Path = True,
    ) -> None:
        super().__init__(
            image_size=image_size, batch_size=batch_size, num_workers=num_workers, test_split=test_split
        )
        self.padding = padding
        self.jitter = jitter
        self.eval_padding = eval_padding
        self.flip = flip
        self.color = color
        self.fill = fill
        self.cache = cache
        self._datasets: dict[tuple[str, bool], PhotoDataset] = {}

    @property
    def split_sizes(self) -> Mapping[str, int]:
        """Number of images of each split; empty as long as the photos are not read."""
        counts = Counter(vars(self)["photos"].splits if "photos" in vars(self) else ())
        return {split: counts[split] for split in ("train", "val", "test") if counts[split]}

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the annotated parts; none unless a subclass has some."""
        return ()

    @abstractmethod
    def new_dataset(self, split: str, **options: Any) -> PhotoDataset:  # noqa: ANN401
        """Make the data set of a split.

        Args:
            split: ``train``, ``val`` or ``test``.
            **options: Those of `PhotoDataset`: ``image_size``, ``padding``, ``fill`` and ``cache``.

        Returns:
            A new data set.
        """

    def dataset(self, split: str, *, train: bool = False) -> PhotoDataset:
        """Return the data set of a split; with ``train``, crops have the room that the jitter needs."""
        if (split, train) not in self._datasets:
            whole = 1 + 2 * self._margin
            size = round(self.image_size * whole / (1 + 2 * self.padding)) if train else self.image_size
            padding = self._margin if train else self.eval_padding
            self._datasets[split, train] = self.new_dataset(
                split, image_size=size, padding=padding, fill=self.fill, cache=self.cache
            )
        return self._datasets[split, train]

    def new_augmentation(self) -> nn.Module:
        """Return jitter, flips and changes of color; see `AugmentedDataModule.new_augmentation`."""
        parts = self.part_names
        steps: list[nn.Module] = [
            RandomCropJitter(
                self.image_size, padding=self.padding, jitter=self.jitter, margin=self._margin, fill=self.fill
            ),
            RandomFlip(self.flip, part_mirror=mirror_names(parts) if parts else None),
        ]
        return nn.Sequential(*steps, *([RandomColor(self.color)] if self.color else []))

    @property
    def _margin(self) -> float:
        return self.padding + 2 * self.jitter


class CUBDataModule(PhotoDataModule):
    """Loaders of a folder in CUB's layout (see `PhotoDataModule`).

    Args:
        root: Folder in CUB's layout.
        cameras: Cameras file; ``sfm/cameras.csv`` of the folder, if there is one, when not given.
        **options: Those of `PhotoDataModule`: ``image_size``, ``batch_size``, ``num_workers``, ``test_split``,
            ``padding``, ``jitter``, ``eval_padding``, ``flip``, ``color``, ``fill``, ``cache``.

    Raises:
        FileNotFoundError: At ``setup``, if a file is missing; the message names the command that gets it.

    Example:
        From the data to a batch::

            data = CUBDataModule(Path("data/CUB_200_2011"), image_size=256, batch_size=32)
            data.setup("fit")
            next(iter(data.val_dataloader()))["image"].shape  # (32, 3, 256, 256)
    """

    def __init__(self, root: Path, *, cameras: Path | None = None, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.root = Path(root)
        self.cameras = cameras

    @cached_property
    def photos(self) -> CUBAnnotations:
        """Annotations of all splits, read at the first use."""
        return read_cub(self.root, self.cameras)

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts."""
        return self.photos.part_names

    @property
    def domain(self) -> Domain:
        """What a network learns here."""
        return Domain("photographs of birds", "bird", "CUB-200-2011")

    def new_dataset(self, split: str, **options: Any) -> CUBDataset:  # noqa: ANN401
        """Make the data set of a split; see `PhotoDataModule.new_dataset`."""
        return CUBDataset(self.root, split, annotations=self.photos, **options)


class FolderDataModule(PhotoDataModule):
    """Loaders of a folder of images with masks, or with COCO files (see `read_folder` and `PhotoDataModule`).

    Images that cannot be used are left out, and listed in the log and in ``photos.problems``.

    Args:
        root: Folder with ``images`` and ``masks``, or the images of a COCO file.
        annotations: COCO file, or one for each split.
        category: Category of the objects, for COCO files with several.
        splits: Text file with a name and its split on each line; ``splits.txt`` of the folder, if there is one,
            when not given.
        val_share: Share of the images that is held out for ``val`` where nothing else decides the splits.
        split_seed: Decides which.
        drawn_upright: Whether objects were drawn on upright photos, where sizes do not tell (see `read_folder`).
        **options: Those of `PhotoDataModule`: ``image_size``, ``batch_size``, ``num_workers``, ``test_split``,
            ``padding``, ``jitter``, ``eval_padding``, ``flip``, ``color``, ``fill``, ``cache``. A folder as
            ``cache`` also keeps the results of the check of the files.

    Raises:
        FileNotFoundError: At ``setup``, if a folder or file is missing.
        ValueError: At ``setup``, if no image can be used.

    Example:
        >>> from PIL import Image
        >>> folder = getfixture("tmp_path")
        >>> for kind, color in (("images", "red"), ("masks", "white")):
        ...     (folder / kind).mkdir()
        ...     for name in ("one.png", "two.png"):
        ...         Image.new("RGB", (40, 30), color).save(folder / kind / name)
        >>> data = FolderDataModule(folder, image_size=32, batch_size=2, num_workers=0)
        >>> len(data.dataset("train")) + len(data.dataset("val"))
        2
    """

    def __init__(
        self,
        root: Path,
        *,
        annotations: Path | dict[str, Path] | None = None,
        category: str | None = None,
        splits: Path | None = None,
        val_share: float = 0.1,
        split_seed: int = 0,
        drawn_upright: bool | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.annotations = annotations
        self.category = category
        self.splits = splits
        self.val_share = val_share
        self.split_seed = split_seed
        self.drawn_upright = drawn_upright

    @cached_property
    def photos(self) -> FolderAnnotations:
        """Images of all splits with their masks, listed and checked at the first use."""
        return read_folder(
            self.root,
            self.annotations,
            category=self.category,
            splits=self.splits,
            val_share=self.val_share,
            seed=self.split_seed,
            store=None if isinstance(self.cache, bool) else Path(self.cache),
            drawn_upright=self.drawn_upright,
        )

    @property
    def domain(self) -> Domain:
        """What a network learns here; a folder without categories may hold anything."""
        category = self.category or "object"
        return Domain(f"photographs of {category}s", category, "a folder of photographs")

    @property
    def fingerprint(self) -> str:
        """Digest of paths, times and sizes of all files; cached features are kept under it."""
        stamps = [
            (entry.stamp(), split) for entry, split in zip(self.photos.entries, self.photos.splits, strict=True)
        ]
        return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]

    def new_dataset(self, split: str, **options: Any) -> FolderDataset:  # noqa: ANN401
        """Make the data set of a split; see `PhotoDataModule.new_dataset`."""
        return FolderDataset(self.root, split, annotations=self.photos, **options)
