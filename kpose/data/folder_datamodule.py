"""Lightning data module of photos of a category of one's own."""

import hashlib
from pathlib import Path
from typing import Any

from kpose.data.folder import FolderAnnotations, FolderDataset, read_folder
from kpose.data.photo_datamodule import PhotoDataModule

__all__ = ["FolderDataModule"]


class FolderDataModule(PhotoDataModule[FolderDataset]):
    """Loaders of a folder of images with masks, or with COCO files (see `read_folder` and `PhotoDataModule`).

    Images that cannot be used are left out, and listed in the log and in ``annotations.problems``.

    Args:
        root: Folder with ``images`` and ``masks``, or the images of a COCO file.
        annotations: COCO file, or one for each split.
        category: Category of the objects, for COCO files with several.
        splits: Text file with a name and its split on each line; ``splits.txt`` of the folder, if there is one,
            when not given.
        val_share: Share of the images that is held out for ``val`` where nothing else decides the splits.
        split_seed: Decides which.
        **options: Those of `PhotoDataModule`: ``image_size``, ``batch_size``, ``num_workers``, ``test_split``,
            ``padding``, ``jitter``, ``eval_padding``, ``flip``, ``color``, ``fill``, ``cache``. A folder as
            ``cache`` also keeps the results of the check of the files.

    Raises:
        FileNotFoundError: At ``setup``, if a folder or file is missing.
        ValueError: At ``setup``, if no image can be used.
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
        **options: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**options)
        self.root = Path(root)
        self.coco = annotations
        self.category = category
        self.splits = splits
        self.val_share = val_share
        self.split_seed = split_seed
        self._annotations: FolderAnnotations | None = None

    @property
    def annotations(self) -> FolderAnnotations:
        """Annotations of all splits, read and checked at the first use."""
        if self._annotations is None:
            self._annotations = read_folder(
                self.root,
                self.coco,
                category=self.category,
                splits=self.splits,
                val_share=self.val_share,
                seed=self.split_seed,
                store=None if isinstance(self.cache, bool) else Path(self.cache),
            )
        return self._annotations

    @property
    def fingerprint(self) -> str:
        """Digest of paths, times and sizes of all files; cached features are kept under it."""
        notes = self.annotations
        stamps = [(entry.stamp(), split) for entry, split in zip(notes.entries, notes.splits, strict=True)]
        return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]

    def new_dataset(self, split: str, *, image_size: int, padding: float) -> FolderDataset:
        """Make the data set of a split.

        Args:
            split: ``train``, ``val`` or ``test``.
            image_size: Side of its crops, in pixels.
            padding: Padding of its crops, as a share of the box's longer side.

        Returns:
            A new data set.
        """
        return FolderDataset(
            self.root,
            split,
            image_size=image_size,
            padding=padding,
            fill=self.fill,
            cache=self.cache,
            annotations=self.annotations,
        )
