"""What needs Lightning, which predicting does without; `kpose.data` imports it when it is asked for."""

from kpose.data.cub_datamodule import CUBDataModule
from kpose.data.feature_cache import AugmentedData, CachedFeaturesDataModule
from kpose.data.folder_datamodule import FolderDataModule
from kpose.data.folds import FoldDataModule, fold_indices
from kpose.data.photo_datamodule import PhotoDataModule
from kpose.data.synthetic import SyntheticBirdsDataModule, SyntheticBirdsDataset

__all__ = [
    "AugmentedData",
    "CUBDataModule",
    "CachedFeaturesDataModule",
    "FoldDataModule",
    "FolderDataModule",
    "PhotoDataModule",
    "SyntheticBirdsDataModule",
    "SyntheticBirdsDataset",
    "fold_indices",
]
