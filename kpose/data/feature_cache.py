"""Feature maps computed once: training a head on a frozen backbone without running the backbone again."""

import functools
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler
from tqdm.auto import tqdm

from kpose.files import write_file
from kpose.structures import Batch, Camera, Crop, Features

__all__ = ["AugmentedData", "CachedFeaturesDataModule"]

NESTED: dict[str, type[Camera] | type[Crop]] = {"camera": Camera, "crop": Crop}
UNRELATED = {"cache", "num_workers", "test_split"}  # settings that no feature depends on
FORMAT = 1  # raised when the files of a pass change


class AugmentedData(Protocol):
    """What a data module offers whose features can be cached."""

    batch_size: int
    """Images of a batch."""
    test_split: str
    """Split that ``test`` uses."""

    def dataset(self, split: str, *, train: bool = False) -> Dataset[Batch]:
        """Give the data set of a split, with the room that augmentation needs when ``train``."""

    def augment(self, batch: Batch, *, seed: int) -> Batch:
        """Do to a batch what training does to it."""


class CachedFeaturesDataModule(LightningDataModule):
    """Serve the frozen features of another data module's images from disk.

    Each training image goes through the backbone ``views`` times, augmented differently each time; an epoch takes
    one of its views at random. Evaluation splits go through once, as they are. What has been computed stays in
    ``folder``, one subfolder a pass, under a key that changes with the backbone's weights and the settings of the
    data module; a pass that was interrupted is computed anew. Batches carry ``features`` in place of ``image``, or
    beside a smaller one if ``picture_size`` says so.

    Args:
        data: Data module with the methods of `AugmentedData`, such as `CUBDataModule`.
        backbone: The frozen backbone that the task has too.
        folder: Where the features are kept; a view of a ResNet-50's last three stages at 224 px takes 1.4 MB.
        views: Augmented views of each training image.
        batch_size: Images of a training batch; that of ``data`` when None.
        seed: Decides the augmentation of the views.
        picture_size: Side to which the images and masks of training batches are reduced, for stages that compare
            them with renderings; None leaves images out and masks as they are. Pictures lie beside the features and
            are made without running the backbone again.

    Raises:
        ValueError: If ``views`` or ``picture_size`` is not positive or the backbone is not frozen.
    """

    def __init__(
        self,
        data: LightningDataModule,
        backbone: nn.Module,
        *,
        folder: Path,
        views: int = 4,
        batch_size: int | None = None,
        seed: int = 0,
        picture_size: int | None = None,
    ) -> None:
        super().__init__()
        if views < 1:
            raise ValueError(f"CachedFeaturesDataModule needs at least one view; got views={views}.")
        if picture_size is not None and picture_size < 1:
            raise ValueError(f"CachedFeaturesDataModule needs a positive picture_size; got {picture_size}.")
        if any(parameter.requires_grad for parameter in backbone.parameters()):
            raise ValueError(
                f"CachedFeaturesDataModule needs a frozen backbone, whose features stay the same; got a "
                f"{type(backbone).__name__} with trainable parameters. Build it with frozen=True."
            )
        self.data = cast("AugmentedData", data)
        self.image_size = getattr(data, "image_size", None)
        self.backbone = backbone
        self.folder = Path(folder)
        self.views = views
        self.batch_size = batch_size or self.data.batch_size
        self.seed = seed
        self.picture_size = picture_size
        self._passes: dict[str, list[FeaturePass]] = {}

    def setup(self, stage: str) -> None:
        """Compute the passes that are missing.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        splits = {"fit": ("train", "val"), "validate": ("val",)}.get(stage, (self.data.test_split,))
        for split in splits:
            views = range(self.views) if split == "train" and stage == "fit" else (None,)
            self._passes[split] = [self._pass(split, view) for view in views]

    def dataset(self, split: str, *, train: bool = False) -> Dataset[Batch]:
        """Give the data set of the images of a split, as the other data module does.

        Args:
            split: ``train``, ``val`` or ``test``.
            train: Whether its crops have the room that augmentation needs.

        Returns:
            The data set.
        """
        return self.data.dataset(split, train=train)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of the training split: a random view of each image, in random order."""
        dataset = CachedFeatures(self._passes["train"], self.picture_size)
        return self._loader(dataset, RandomSampler(dataset), drop_last=len(dataset) >= self.batch_size)

    def view_dataloaders(self, split: str) -> list[DataLoader[Batch]]:
        """Give a loader for each view of a split that is cached, in order; `setup` has to be called first.

        Args:
            split: ``train``, ``val`` or ``test``.

        Returns:
            Loaders, each of which gives every image once.
        """
        return [self._loader(CachedFeatures([one])) for one in self._passes[split]]

    def val_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of the split ``val``, in order."""
        return self._loader(CachedFeatures(self._passes["val"]))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Give the loader of the split that ``data`` tests on, in order."""
        return self._loader(CachedFeatures(self._passes[self.data.test_split]))

    def _loader(
        self, dataset: "CachedFeatures", sampler: Sampler[int] | None = None, *, drop_last: bool = False
    ) -> DataLoader[Batch]:
        return DataLoader(dataset, self.batch_size, sampler=sampler, drop_last=drop_last, collate_fn=_identity)

    def _pass(self, split: str, view: int | None) -> "FeaturePass":
        folder = self.folder / self._key() / (split if view is None else f"{split}-view{view}")
        if not folder.exists():
            partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
            partial.mkdir(parents=True)
            try:
                writer = FeatureWriter(partial, len(cast("Sequence[object]", self.data.dataset(split))))
                for batch in self._batches("features", split, view):
                    writer.add(batch, self._features(batch["image"]))
                writer.finish()
                # Another process may have finished the same pass meanwhile; both wrote the same.
                if not folder.exists():
                    partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        pictures = None
        if self.picture_size is not None and view is not None:
            pictures = folder / f"pictures{self.picture_size}.npy"
            if not pictures.exists():
                size = (self.picture_size, self.picture_size)
                small = [
                    (255 * interpolate(batch["image"], size, mode="area")).round().to("cpu", torch.uint8)
                    for batch in self._batches("pictures", split, view)
                ]
                write_file(pictures, functools.partial(_save_array, torch.cat(small)))
        return FeaturePass(folder, pictures)

    def _batches(self, content: str, split: str, view: int | None) -> Iterator[Batch]:
        """Run through a split, augmented as the view's own streams say, behind a progress bar."""
        dataset = self.data.dataset(split, train=view is not None)
        # A generator of its own: whether this has been computed before must not change what training draws.
        loader = DataLoader(dataset, batch_size=self.data.batch_size, generator=torch.Generator())
        name = f"{content} of {split}" + ("" if view is None else f", view {view + 1} of {self.views}")
        for number, raw in enumerate(tqdm(loader, name, unit="batch")):
            yield raw if view is None else self.data.augment(raw, seed=self._seed(view, number))

    @torch.no_grad()
    def _features(self, image: Tensor) -> Features:
        device = self.trainer.strategy.root_device if self.trainer is not None else image.device
        features: Features = self.backbone.to(device)(image.to(device))
        return features

    def _seed(self, view: int, number: int) -> int:
        """Give every batch of every view its own stream."""
        return (self.seed * 0x9E3779B97F4A7C15 + view * 0x100000001 + number) % 2**63

    def _key(self) -> str:
        """Digest all that the features depend on."""
        settings = {k: str(v) for k, v in sorted(vars(self.data).items()) if _is_setting(k, v)}
        if fingerprint := getattr(self.data, "fingerprint", ""):  # of data modules whose files may change
            settings["fingerprint"] = fingerprint
        digest = hashlib.sha256(json.dumps([FORMAT, self.seed, settings]).encode())
        for name, tensor in self.backbone.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]


class FeatureWriter:
    """Write one pass: a memory-mapped array for each feature map, and all other entries in one file."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.count = count
        self.arrays: list[np.memmap[tuple[int, ...], np.dtype[np.float16]]] = []
        self.rest: dict[str, list[Tensor]] = {}
        self.position = 0

    def add(self, batch: Batch, features: Features) -> None:
        """Append one batch."""
        maps = [m.to("cpu", torch.float16).numpy() for m in features.maps]
        if not self.arrays:
            self.arrays = [
                np.lib.format.open_memmap(
                    os.fspath(self.folder / f"map{n}.npy"),
                    mode="w+",
                    dtype=np.float16,
                    shape=(self.count, *m.shape[1:]),
                )
                for n, m in enumerate(maps)
            ]
        for array, values in zip(self.arrays, maps, strict=True):
            array[self.position : self.position + len(values)] = values
        self.position += len(maps[0])
        for name, tensor in _flatten(batch).items():
            self.rest.setdefault(name, []).append(tensor)

    def finish(self) -> None:
        """Write what is still in memory."""
        for array in self.arrays:
            array.flush()
        save_file({name: torch.cat(parts) for name, parts in self.rest.items()}, self.folder / "rest.safetensors")


class FeaturePass:
    """Read one pass."""

    def __init__(self, folder: Path, pictures: Path | None = None) -> None:
        self.rest = load_file(folder / "rest.safetensors")
        self.maps = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("map*.npy"))]
        self.pictures = None if pictures is None else np.load(pictures, mmap_mode="r")


class CachedFeatures(Dataset[Batch]):
    """Images of a split, each as one of its passes, with pictures and masks of a size of their own if asked for."""

    def __init__(self, passes: Sequence[FeaturePass], picture_size: int | None = None) -> None:
        self.passes = passes
        self.picture_size = picture_size

    def __len__(self) -> int:
        """Count the images."""
        return len(self.passes[0].maps[0])

    def __getitems__(self, indices: list[int]) -> Batch:
        """Read a whole batch, each image from a pass drawn at random."""
        views = torch.randint(len(self.passes), (len(indices),)).tolist()
        maps = tuple(
            torch.from_numpy(
                np.stack([self.passes[v].maps[n][i] for v, i in zip(views, indices, strict=True)])
            ).float()
            for n in range(len(self.passes[0].maps))
        )
        flat = {
            name: torch.stack([self.passes[v].rest[name][i] for v, i in zip(views, indices, strict=True)])
            for name in self.passes[0].rest
        }
        batch = _unflatten(flat)
        batch["features"] = Features(maps)
        if self.picture_size is not None:
            pictures = [cast("Any", self.passes[v].pictures)[i] for v, i in zip(views, indices, strict=True)]
            batch["image"] = torch.from_numpy(np.stack(pictures)).float() / 255
            size = (self.picture_size, self.picture_size)
            batch["mask"] = interpolate(batch["mask"][:, None].float(), size, mode="area")[:, 0] > 0.5
        return batch


def _flatten(batch: Batch) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in batch.items():
        if name in NESTED:
            fields = cast("Camera | Crop", value)._asdict()
            flat |= {f"{name}.{field}": tensor.cpu().contiguous() for field, tensor in fields.items()}
        elif name != "image":
            flat[name] = cast("Tensor", value).cpu().contiguous()
    return flat


def _unflatten(flat: dict[str, Tensor]) -> Batch:
    batch: dict[str, object] = {name: tensor for name, tensor in flat.items() if "." not in name}
    for name, kind in NESTED.items():
        if fields := {field: flat[f"{name}.{field}"] for field in kind._fields if f"{name}.{field}" in flat}:
            batch[name] = kind(**fields)
    return cast("Batch", batch)


def _save_array(array: Tensor, path: Path) -> None:
    with path.open("wb") as file:  # numpy adds an ending to a name
        np.save(file, array.numpy())


def _identity(batch: Any) -> Any:  # noqa: ANN401 - the loader believes it gets a list of items
    return batch


def _is_setting(name: str, value: object) -> bool:
    return (
        not name.startswith("_")
        and name not in UNRELATED
        and isinstance(value, (bool, int, float, str, Path, type(None)))
    )
