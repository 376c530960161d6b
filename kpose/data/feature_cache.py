"""Feature maps computed once: training a head on a frozen backbone without running the backbone again."""

import functools
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler
from tqdm.auto import tqdm

from kpose._files import write_file
from kpose.backbones import Backbone
from kpose.data.digests import describe_data, digest_tensors
from kpose.structures import Batch, Camera, Crop, Features

__all__ = ["CachedFeaturesDataModule", "cache_features"]

_NESTED: dict[str, type[Camera] | type[Crop]] = {"camera": Camera, "crop": Crop}
_BATCH = 32  # what a view is depends on who shared its batch when it was augmented
_FORMAT = 2  # raised when the files of a pass change


def cache_features(
    data: Any,  # noqa: ANN401 - any Lightning data module with `dataset` and `augment`
    backbone: Backbone,
    folder: Path,
    split: str,
    *,
    views: int | None = None,
    seed: int = 0,
    picture_size: int | None = None,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
) -> "CachedFeatures":
    """Run the images of a split through a frozen backbone, as far as that is not done yet.

    What is computed stays in ``folder``, one subfolder a pass over the images, under a key that changes with the
    backbone's weights and the data. A pass that is interrupted is computed again.

    Args:
        data: Data module with the methods ``dataset`` and ``augment`` of `AugmentedDataModule`.
        backbone: The frozen backbone, on the device that it is to be run on.
        folder: Where the features are kept; a view of a ResNet-50's last three stages at 224 px takes 1.4 MB.
        split: ``train``, ``val`` or ``test``.
        views: How often each image goes through, augmented as in training and differently each time; once, as it
            is, when None.
        seed: Decides the augmentation.
        picture_size: Side of the pictures and masks of augmented images that are served beside the features, for
            stages that compare them with renderings; none are when None.
        precision: What the backbone computes in, by Lightning's names; what is kept is float16.

    Returns:
        Data set whose batches carry ``features`` in place of ``image``; each image comes as one of its views.
    """
    settings = json.dumps([_FORMAT, seed, precision, describe_data(data)])
    key = hashlib.sha256(f"{settings} {digest_tensors(backbone.state_dict())}".encode()).hexdigest()[:16]
    passes = [
        _FeaturePass(*_compute(data, backbone, folder / key, split, view, seed, picture_size, precision))
        for view in ((None,) if views is None else range(views))
    ]
    return CachedFeatures(passes, picture_size)


class CachedFeaturesDataModule(LightningDataModule):
    """Loaders of the frozen features of another data module's images (see `cache_features`).

    An epoch takes one of the views of each training image at random. Evaluation splits go through the backbone as
    they are.

    Args:
        data: Data module with the methods ``dataset`` and ``augment`` of `AugmentedDataModule`.
        backbone: The frozen backbone that the task has too, on the device that it is to be run on.
        folder: Where the features are kept.
        views: Augmented views of each training image.
        batch_size: Images of a training batch; that of ``data``, else 32, when None.
        seed: Decides the augmentation of the views.
        picture_size: Side of the images and masks of training batches; None leaves images out and masks as they
            are.
        precision: See `cache_features`.

    Raises:
        ValueError: If ``views`` or ``picture_size`` is not positive or the backbone is not frozen.
    """

    def __init__(
        self,
        data: LightningDataModule,
        backbone: Backbone,
        *,
        folder: Path,
        views: int = 4,
        batch_size: int | None = None,
        seed: int = 0,
        picture_size: int | None = None,
        precision: Literal["32-true", "bf16-mixed"] = "32-true",
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
        self.data: Any = data
        self.backbone = backbone
        self.folder = Path(folder)
        self.views = views
        self.batch_size: int = getattr(data, "batch_size", 32) if batch_size is None else batch_size
        self.seed = seed
        self.picture_size = picture_size
        self.precision = precision
        self.image_size = getattr(data, "image_size", None)
        self.domain = getattr(data, "domain", None)
        self.test_split = getattr(data, "test_split", "test")
        self._computed: dict[tuple[str, int | None, int | None], CachedFeatures] = {}

    def prepare_data(self) -> None:
        """Prepare the other data module."""
        self.data.prepare_data()

    def setup(self, stage: str) -> None:
        """Compute the features of training that are missing; those of other splits wait for their loader."""
        if stage == "fit":
            self.features("train", train=True)

    def dataset(self, split: str, *, train: bool = False) -> Dataset[Batch]:
        """Return the data set of the images of a split, that of the other data module."""
        return cast("Dataset[Batch]", self.data.dataset(split, train=train))

    def features(self, split: str, *, train: bool = False) -> "CachedFeatures":
        """Return the features of a split, of augmented views with ``train``; what is missing is computed."""
        views, size = (self.views, self.picture_size) if train else (None, None)
        if (split, views, size) not in self._computed:
            self._computed[split, views, size] = cache_features(
                self.data,
                self.backbone,
                self.folder,
                split,
                views=views,
                seed=self.seed,
                picture_size=size,
                precision=self.precision,
            )
        return self._computed[split, views, size]

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the training split: a random view of each image, in random order."""
        dataset = self.features("train", train=True)
        return self._loader(dataset, RandomSampler(dataset), drop_last=len(dataset) >= self.batch_size)

    def view_dataloaders(self) -> list[DataLoader[Batch]]:
        """Return a loader for each view of the training split, which gives every image once, in order."""
        return [self._loader(CachedFeatures([one])) for one in self.features("train", train=True).passes]

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the split ``val``, in order."""
        return self._loader(self.features("val"))

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return the loader of the split that ``data`` tests on, in order."""
        return self._loader(self.features(self.test_split))

    def _loader(
        self, dataset: "CachedFeatures", sampler: Sampler[int] | None = None, *, drop_last: bool = False
    ) -> DataLoader[Batch]:
        return DataLoader(dataset, self.batch_size, sampler=sampler, drop_last=drop_last, collate_fn=_identity)


class CachedFeatures(Dataset[Batch]):
    """Images of a split, each as one of its passes, with pictures and masks of a size of their own if asked for."""

    def __init__(self, passes: "Sequence[_FeaturePass]", picture_size: int | None = None) -> None:
        self.passes = passes
        self.picture_size = picture_size

    def __len__(self) -> int:
        """Count the images."""
        return len(self.passes[0].maps[0])

    def __getitems__(self, indices: list[int]) -> Batch:
        """Read a whole batch, each image from a pass drawn at random."""
        drawn = list(zip(torch.randint(len(self.passes), (len(indices),)).tolist(), indices, strict=True))
        maps = tuple(
            torch.from_numpy(np.stack([self.passes[v].maps[n][i] for v, i in drawn])).float()
            for n in range(len(self.passes[0].maps))
        )
        rest = {name: torch.stack([self.passes[v].rest[name][i] for v, i in drawn]) for name in self.passes[0].rest}
        batch = _unflatten(rest)
        batch["features"] = Features(maps)
        if self.picture_size is not None:
            pictures = [cast("Any", self.passes[v].pictures)[i] for v, i in drawn]
            batch["image"] = torch.from_numpy(np.stack(pictures)).float() / 255
            size = (self.picture_size, self.picture_size)
            batch["mask"] = interpolate(batch["mask"][:, None].float(), size, mode="area")[:, 0] > 0.5
        return batch


class _FeaturePass:
    """Files of one pass: a memory-mapped array for each feature map, and all other entries in one file."""

    def __init__(self, folder: Path, pictures: Path | None = None) -> None:
        self.rest = load_file(folder / "rest.safetensors")
        self.maps = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("map*.npy"))]
        self.pictures = None if pictures is None else np.load(pictures, mmap_mode="r")


def _compute(
    data: Any,  # noqa: ANN401
    backbone: Backbone,
    folder: Path,
    split: str,
    view: int | None,
    seed: int,
    picture_size: int | None,
    precision: str,
) -> tuple[Path, Path | None]:
    """Write what is missing of a pass; return its folder and the file of its pictures."""
    name = split if view is None else f"{split}-view{view}"
    place = folder / name
    if not place.exists():
        partial = folder / f".{name}.{secrets.token_hex(4)}"
        partial.mkdir(parents=True)
        try:
            batches = _batches(data, split, view, seed, "features")
            _write_pass(partial, len(data.dataset(split)), backbone, batches, precision)
            # Another process may have finished the same pass meanwhile; both wrote the same.
            if not place.exists():
                partial.rename(place)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    if picture_size is None or view is None:
        return place, None
    pictures = place / f"pictures{picture_size}.npy"
    if not pictures.exists():
        small = [
            (255 * interpolate(batch["image"], (picture_size, picture_size), mode="area")).round().byte().cpu()
            for batch in _batches(data, split, view, seed, "pictures")
        ]
        write_file(pictures, functools.partial(_save_array, torch.cat(small)))
    return place, pictures


def _batches(data: Any, split: str, view: int | None, seed: int, content: str) -> Iterator[Batch]:  # noqa: ANN401
    """Run through a split, augmented as the view's own streams say, behind a progress bar."""
    # A generator of its own: whether this has been computed before must not change what training draws.
    loader: Any = DataLoader(
        data.dataset(split, train=view is not None), batch_size=_BATCH, generator=torch.Generator()
    )
    name = f"{content} of {split}" + ("" if view is None else f", view {view + 1}")
    for number, raw in enumerate(tqdm(loader, name, unit="batch")):
        yield raw if view is None else data.augment(raw, seed=_stream(seed, view, number))


def _stream(seed: int, view: int, number: int) -> int:
    """Return the seed of a batch of a view."""
    return (seed * 0x9E3779B97F4A7C15 + view * 0x100000001 + number) % 2**63


@torch.no_grad()
def _write_pass(folder: Path, count: int, backbone: Backbone, batches: Iterator[Batch], precision: str) -> None:
    device = backbone.mean.device
    arrays: list[np.memmap[tuple[int, ...], np.dtype[np.float16]]] = []
    rest: dict[str, list[Tensor]] = {}
    position = 0
    for batch in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
            features: Features = backbone.eval()(batch["image"].to(device))
        maps = [m.to("cpu", torch.float16).numpy() for m in features.maps]
        arrays = arrays or [
            np.lib.format.open_memmap(
                os.fspath(folder / f"map{n}.npy"), mode="w+", dtype=np.float16, shape=(count, *m.shape[1:])
            )
            for n, m in enumerate(maps)
        ]
        for array, values in zip(arrays, maps, strict=True):
            array[position : position + len(values)] = values
        position += len(maps[0])
        for name, tensor in _flatten(batch).items():
            rest.setdefault(name, []).append(tensor)
    for array in arrays:
        array.flush()
    save_file({name: torch.cat(parts) for name, parts in rest.items()}, folder / "rest.safetensors")


def _flatten(batch: Batch) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in batch.items():
        if name in _NESTED:
            fields = cast("Camera | Crop", value)._asdict()
            flat |= {f"{name}.{field}": tensor.cpu().contiguous() for field, tensor in fields.items()}
        elif name != "image":
            flat[name] = cast("Tensor", value).cpu().contiguous()
    return flat


def _unflatten(flat: dict[str, Tensor]) -> Batch:
    batch: dict[str, object] = {name: tensor for name, tensor in flat.items() if "." not in name}
    for name, kind in _NESTED.items():
        if fields := {field: flat[f"{name}.{field}"] for field in kind._fields if f"{name}.{field}" in flat}:
            batch[name] = kind(**fields)
    return cast("Batch", batch)


def _save_array(array: Tensor, path: Path) -> None:
    with path.open("wb") as file:  # numpy adds an ending to a name
        np.save(file, array.numpy())


def _identity(batch: Any) -> Any:  # noqa: ANN401 - the loader believes it gets a list of items
    return batch
