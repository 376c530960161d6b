"""One pass of images through a frozen backbone, on disk: computed by all processes, each its share."""

import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from kpose._distributed import barrier, broadcast, locked, num_processes, rank, share
from kpose._files import fresh_file
from kpose.backbones import Backbone
from kpose.structures import Batch, Camera, Crop, Features

__all__ = ["FeaturePass", "compute_pass", "unflatten"]

_NESTED: dict[str, type[Camera] | type[Crop]] = {"camera": Camera, "crop": Crop}
_BATCH = 32  # what a view is depends on who shared its batch when it was augmented


class FeaturePass:
    """Files of one pass: a memory-mapped array for each feature map, and all other entries in one file."""

    def __init__(self, folder: Path, pictures: Path | None = None) -> None:
        self.rest = load_file(folder / "rest.safetensors")
        self.maps = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("map*.npy"))]
        self.pictures = None if pictures is None else np.load(pictures, mmap_mode="r")
        self._files = (folder, pictures)

    def __reduce__(self) -> tuple[Any, ...]:
        """Open the files again in another process, in place of sending what is in them."""
        return FeaturePass, self._files


def compute_pass(
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
    pictures = None if picture_size is None or view is None else place / f"pictures{picture_size}.npy"
    if broadcast(place.exists() and (pictures is None or pictures.exists())):
        return place, pictures
    with locked(folder):
        if not broadcast(place.exists()):
            partial = folder / broadcast(f".{name}.{secrets.token_hex(4)}")
            try:
                _write_pass(partial, data, backbone, split, view, seed, precision)
                if rank() == 0:
                    partial.rename(place)
            finally:
                if rank() == 0:
                    shutil.rmtree(partial, ignore_errors=True)
            barrier()
        if picture_size is not None and pictures is not None and not broadcast(pictures.exists()):
            with fresh_file(pictures) if rank() == 0 else nullcontext() as fresh:
                _write_pictures(broadcast(fresh), data, split, view, seed, picture_size)
            barrier()
    return place, pictures


def _share(count: int) -> range:
    """Return which batches this process computes, of so many images."""
    return share(-(-count // _BATCH))


def _batches(data: Any, split: str, view: int | None, seed: int, content: str) -> Iterator[Batch]:  # noqa: ANN401
    """Run through this process's share of a split, augmented as the view's own streams say."""
    images = data.dataset(split, train=view is not None)
    own = _share(len(images))
    rows = [list(range(k * _BATCH, min((k + 1) * _BATCH, len(images)))) for k in own]
    # A generator of its own: whether this has been computed before must not change what training draws.
    loader: Any = DataLoader(
        images,
        batch_sampler=rows,
        generator=torch.Generator(),
        num_workers=getattr(data, "num_workers", 0),
    )
    name = f"{content} of {split}" + ("" if view is None else f", view {view + 1}")
    for number, raw in enumerate(tqdm(loader, name, unit="batch", disable=rank() > 0), own.start):
        yield raw if view is None else data.augment(raw, seed=_stream(seed, view, number))


def _stream(seed: int, view: int, number: int) -> int:
    """Return the seed of a batch of a view."""
    return (seed * 0x9E3779B97F4A7C15 + view * 0x100000001 + number) % 2**63


@torch.no_grad()
def _write_pass(
    folder: Path,
    data: Any,  # noqa: ANN401
    backbone: Backbone,
    split: str,
    view: int | None,
    seed: int,
    precision: str,
) -> None:
    """Write a pass into a new folder, each process its share of the images."""
    device, rest = backbone.mean.device, dict[str, list[Tensor]]()

    def maps() -> Iterator[list[Tensor]]:
        for batch in _batches(data, split, view, seed, "features"):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
                features: Features = backbone.eval()(batch["image"].to(device))
            for name, tensor in _flatten(batch).items():
                rest.setdefault(name, []).append(tensor)
            yield [m.to("cpu", torch.float16) for m in features.maps]

    if rank() == 0:
        folder.mkdir(parents=True)
    _write_rows(lambda number: folder / f"map{number}.npy", len(data.dataset(split)), maps())
    paths = [folder / f"rest.{number}" for number in range(num_processes())]
    if rest:
        save_file({name: torch.cat(parts) for name, parts in rest.items()}, paths[rank()])
    barrier()
    if rank() == 0:
        paths = [path for path in paths if path.exists()]  # by name: network disks list new files late
        shares = [load_file(path) for path in paths]
        whole = {name: torch.cat([share[name] for share in shares]) for name in shares[0]}
        save_file(whole, folder / "rest.safetensors")
        for path in paths:
            path.unlink()


def _write_pictures(
    path: Path,
    data: Any,  # noqa: ANN401
    split: str,
    view: int | None,
    seed: int,
    size: int,
) -> None:
    small = (
        [(255 * interpolate(batch["image"], (size, size), mode="area")).round().byte().cpu()]
        for batch in _batches(data, split, view, seed, "pictures")
    )
    _write_rows(lambda _: path, len(data.dataset(split)), small)
    barrier()


def _write_rows(path: Callable[[int], Path], count: int, batches: Iterator[Sequence[Tensor]]) -> None:
    """Write arrays with a row an image, each process the rows of its share, through files that process 0 makes.

    Nothing is written through a map of a file: network disks would lose what others write to the same page.
    """
    position, started = _share(count).start * _BATCH, False
    for tensors in batches:
        arrays = [tensor.numpy() for tensor in tensors]
        if not started:
            for number, array in enumerate(arrays if rank() == 0 else ()):
                np.lib.format.open_memmap(path(number), "w+", array.dtype, (count, *array.shape[1:]))
            barrier()
            started = True
        for number, array in enumerate(arrays):
            start = np.load(path(number), mmap_mode="r").offset
            with path(number).open("r+b") as file:
                file.seek(start + position * array[0].nbytes)
                file.write(np.ascontiguousarray(array).data)
        position += len(arrays[0])
    if not started:
        barrier()


def _flatten(batch: Batch) -> dict[str, Tensor]:
    flat: dict[str, Tensor] = {}
    for name, value in batch.items():
        if name in _NESTED:
            fields = cast("Camera | Crop", value)._asdict()
            flat |= {f"{name}.{field}": tensor.cpu().contiguous() for field, tensor in fields.items()}
        elif name != "image":
            flat[name] = cast("Tensor", value).cpu().contiguous()
    return flat


def unflatten(flat: dict[str, Tensor]) -> Batch:
    """Return a batch whose entries are named as in the file of a pass: the parts of a camera by themselves."""
    batch: dict[str, object] = {name: tensor for name, tensor in flat.items() if "." not in name}
    for name, kind in _NESTED.items():
        if fields := {field: flat[f"{name}.{field}"] for field in kind._fields if f"{name}.{field}" in flat}:
            batch[name] = kind(**fields)
    return cast("Batch", batch)
