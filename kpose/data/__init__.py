"""Data sets and data modules that yield `kpose.structures.Batch` entries."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kpose._pictures import read_identities
from kpose.data._transforms import mirror_names
from kpose.data.cub import CUBDataset, read_mean_parts
from kpose.data.folder import FolderDataset, read_folder
from kpose.data.photo_dataset import PhotoDataset
from kpose.data.video_sequences import VideoSequence, read_davis, read_youtube_vos

if TYPE_CHECKING:
    from kpose.data.augmented_datamodule import AugmentedDataModule
    from kpose.data.feature_cache import CachedFeaturesDataModule
    from kpose.data.photo_datamodules import CUBDataModule, FolderDataModule, PhotoDataModule
    from kpose.data.synthetic import SyntheticBirdsDataModule, SyntheticBirdsDataset

__all__ = [
    "AugmentedDataModule",
    "CUBDataModule",
    "CUBDataset",
    "CachedFeaturesDataModule",
    "FolderDataModule",
    "FolderDataset",
    "PhotoDataModule",
    "PhotoDataset",
    "SyntheticBirdsDataModule",
    "SyntheticBirdsDataset",
    "VideoSequence",
    "mirror_names",
    "read_davis",
    "read_folder",
    "read_identities",
    "read_mean_parts",
    "read_youtube_vos",
]

# What needs Lightning or a renderer is imported when it is asked for: readers are for predicting too.
_LATER = {
    "AugmentedDataModule": "augmented_datamodule",
    "CUBDataModule": "photo_datamodules",
    "CachedFeaturesDataModule": "feature_cache",
    "FolderDataModule": "photo_datamodules",
    "PhotoDataModule": "photo_datamodules",
    "SyntheticBirdsDataModule": "synthetic",
    "SyntheticBirdsDataset": "synthetic",
}


def __dir__() -> list[str]:
    """List all names, imported already or not."""
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # a type checker would believe in any name

    def __getattr__(name: str) -> Any:  # noqa: ANN401
        """Import a name at its first use."""
        if name in _LATER:
            return getattr(import_module(f"kpose.data.{_LATER[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
