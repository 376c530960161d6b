"""Data sets and data modules that yield `kpose.structures.Batch` entries."""

from kpose.data.cub import CUBAnnotations, CUBDataset, read_cameras, read_cub, read_mean_parts, write_cameras
from kpose.data.cub_datamodule import CUBDataModule
from kpose.data.feature_cache import AugmentedData, CachedFeaturesDataModule
from kpose.data.synthetic import SyntheticBirdsDataModule, SyntheticBirdsDataset

__all__ = [
    "AugmentedData",
    "CUBAnnotations",
    "CUBDataModule",
    "CUBDataset",
    "CachedFeaturesDataModule",
    "SyntheticBirdsDataModule",
    "SyntheticBirdsDataset",
    "read_cameras",
    "read_cub",
    "read_mean_parts",
    "write_cameras",
]
