"""Lightning data module of CUB-200-2011."""

from pathlib import Path
from typing import Any

from kpose.data.cub import CUBAnnotations, CUBDataset, read_cub
from kpose.data.photo_datamodule import PhotoDataModule

__all__ = ["CUBDataModule"]


class CUBDataModule(PhotoDataModule[CUBDataset]):
    """Loaders of a folder in CUB's layout (see `PhotoDataModule`).

    Args:
        root: Folder in CUB's layout.
        cameras: Cameras file; ``sfm/cameras.csv`` of the folder, if there is one, when not given.
        **options: Those of `PhotoDataModule`: ``image_size``, ``batch_size``, ``num_workers``, ``test_split``,
            ``padding``, ``jitter``, ``eval_padding``, ``flip``, ``color``, ``fill``, ``cache``.

    Raises:
        FileNotFoundError: At ``setup``, if a file is missing; the message names the command that gets it.
    """

    def __init__(self, root: Path, *, cameras: Path | None = None, **options: Any) -> None:  # noqa: ANN401
        super().__init__(**options)
        self.root = Path(root)
        self.cameras = cameras
        self._annotations: CUBAnnotations | None = None

    @property
    def annotations(self) -> CUBAnnotations:
        """Annotations of all splits, read at the first use."""
        if self._annotations is None:
            self._annotations = read_cub(self.root, self.cameras)
        return self._annotations

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts."""
        return self.annotations.part_names

    def new_dataset(self, split: str, *, image_size: int, padding: float) -> CUBDataset:
        """Make the data set of a split.

        Args:
            split: ``train``, ``val`` or ``test``.
            image_size: Side of its crops, in pixels.
            padding: Padding of its crops, as a share of the box's longer side.

        Returns:
            A new data set.
        """
        return CUBDataset(
            self.root,
            split,
            image_size=image_size,
            padding=padding,
            fill=self.fill,
            cache=self.cache,
            annotations=self.annotations,
        )
