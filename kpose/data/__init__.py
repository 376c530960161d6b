"""Data sets and data modules that yield `kpose.structures.Batch` entries."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kpose.data.coco import CocoObject, decode_segmentation, read_coco
from kpose.data.cub import (
    CUBAnnotations,
    CUBDataset,
    from_cub_pixels,
    read_cameras,
    read_cub,
    read_mean_parts,
    write_cameras,
    write_mean_parts,
)
from kpose.data.davis import read_davis
from kpose.data.folder import FolderAnnotations, FolderDataset, read_folder
from kpose.data.folder_files import FolderEntry, read_mask
from kpose.data.photo_dataset import PhotoDataset
from kpose.data.transforms import (
    RandomColor,
    RandomCropJitter,
    RandomFlip,
    flip_batch,
    mirror_names,
    recrop_batch,
)
from kpose.data.video_sequence import VideoSequence
from kpose.data.youtube_vos import read_youtube_vos

if TYPE_CHECKING:
    from kpose.data.data_modules import (
        AugmentedData,
        CachedFeaturesDataModule,
        CUBDataModule,
        FoldDataModule,
        FolderDataModule,
        PhotoDataModule,
        SyntheticBirdsDataModule,
        SyntheticBirdsDataset,
        fold_indices,
    )

__all__ = [
    "AugmentedData",
    "CUBAnnotations",
    "CUBDataModule",
    "CUBDataset",
    "CachedFeaturesDataModule",
    "CocoObject",
    "FoldDataModule",
    "FolderAnnotations",
    "FolderDataModule",
    "FolderDataset",
    "FolderEntry",
    "PhotoDataModule",
    "PhotoDataset",
    "RandomColor",
    "RandomCropJitter",
    "RandomFlip",
    "SyntheticBirdsDataModule",
    "SyntheticBirdsDataset",
    "VideoSequence",
    "decode_segmentation",
    "flip_batch",
    "fold_indices",
    "from_cub_pixels",
    "mirror_names",
    "read_cameras",
    "read_coco",
    "read_cub",
    "read_davis",
    "read_folder",
    "read_mask",
    "read_mean_parts",
    "read_youtube_vos",
    "recrop_batch",
    "write_cameras",
    "write_mean_parts",
]


def __dir__() -> list[str]:
    """List the names that are there and those that are still to be imported."""
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker would believe in any name

    def __getattr__(name: str) -> Any:  # noqa: ANN401
        """Import what needs Lightning when it is asked for: readers are for predicting too."""
        if name in __all__:
            return getattr(import_module("kpose.data.data_modules"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
