"""Data sets and data modules that yield `kpose.structures.Batch` entries."""

from kpose.data.coco import CocoObject, decode_counts, decode_segmentation, read_coco
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
from kpose.data.cub_datamodule import CUBDataModule
from kpose.data.davis import read_davis
from kpose.data.feature_cache import AugmentedData, CachedFeaturesDataModule
from kpose.data.folder import FolderAnnotations, FolderDataset, read_folder
from kpose.data.folder_datamodule import FolderDataModule
from kpose.data.folder_files import FolderEntry, read_mask
from kpose.data.folds import FoldDataModule, fold_indices
from kpose.data.photo_datamodule import PhotoDataModule
from kpose.data.photo_dataset import PhotoDataset
from kpose.data.synthetic import SyntheticBirdsDataModule, SyntheticBirdsDataset
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
    "decode_counts",
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
