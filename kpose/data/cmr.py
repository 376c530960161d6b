"""Converter of CMR's annotation files (MATLAB) to a cameras file.

CMR (Kanazawa et al., ECCV 2018) and U-CMR (Goel et al., ECCV 2020) share structure-from-motion cameras of CUB as
``data/<split>_cub_cleaned.mat`` and ``sfm/anno_<split>.mat``. Whoever has them runs::

    python -m kpose.data.cmr CACHEDIR/cub ROOT
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kpose._files import existing
from kpose.data.cub import from_cub_pixels, read_cub, write_cameras, write_mean_parts
from kpose.structures import Camera

__all__ = ["convert_cmr", "main"]

_SPLITS = ("train", "val", "test")
_log = logging.getLogger(__name__)


def convert_cmr(cache: Path, root: Path, out: Path | None = None) -> int:
    """Write the cameras and mean parts of CMR's files as ``cameras.csv`` and ``mean_parts.csv``.

    Images are found by their path; those that ``root`` does not hold are left out.

    Args:
        cache: Folder with ``data/<split>_cub_cleaned.mat`` and ``sfm/anno_<split>.mat``, for one or more of the
            splits train, val and test.
        root: Folder in CUB's layout.
        out: Cameras file to write, ``sfm/cameras.csv`` of ``root`` when not given; the mean parts go beside it.

    Returns:
        How many cameras were written.
    """
    cache, root = Path(cache), Path(root)
    out = root / "sfm" / "cameras.csv" if out is None else Path(out)
    notes = read_cub(root)
    numbers = dict(zip(notes.files, notes.image_ids, strict=True))
    found = [split for split in _SPLITS if _files(cache, split)[0].exists()]
    if not found:
        advice = f"Give the folder `cub` of CMR's cachedir, or run `python -m kpose.data.sfm {root}`."
        existing(_files(cache, "train")[0], "convert_cmr", advice)
    rows: list[tuple[int, str, Any]] = []
    shapes = []
    for split in found:
        images, cameras, shape = _read_split(cache, split)
        shapes.append(shape)
        pairs = zip(images, cameras, strict=True)
        rows += [(numbers[str(i.rel_path)], split, camera) for i, camera in pairs if str(i.rel_path) in numbers]
    if not rows:
        raise ValueError(
            f"convert_cmr needs images of {cache} in {root}; none of them is there. Give another folder."
        )
    ids, splits, solved = zip(*rows, strict=True)
    camera = Camera(
        torch.tensor([float(one.scale) for one in solved], dtype=torch.float32),
        from_cub_pixels(torch.from_numpy(np.stack([one.trans.reshape(2) for one in solved])).float()),
        torch.from_numpy(np.stack([one.rot for one in solved])).float(),
    )
    write_cameras(out, ids, splits, camera)
    write_mean_parts(out.with_name("mean_parts.csv"), torch.from_numpy(shapes[0].T.copy()).float())
    return len(ids)


def _files(cache: Path, split: str) -> tuple[Path, Path]:
    return cache / "data" / f"{split}_cub_cleaned.mat", cache / "sfm" / f"anno_{split}.mat"


def _read_split(cache: Path, split: str) -> tuple[list[Any], list[Any], Any]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError("convert_cmr needs SciPy to read .mat files. Install it: pip install scipy") from error
    images, cameras = _files(cache, split)
    existing(cameras, "convert_cmr", f"Add it to {images}.")
    options = {"struct_as_record": False, "squeeze_me": True}
    listed = [*np.atleast_1d(loadmat(images, variable_names=["images"], **options)["images"])]
    annotation = loadmat(cameras, variable_names=["sfm_anno", "S"], **options)
    solved = [*np.atleast_1d(annotation["sfm_anno"])]
    if len(listed) != len(solved):
        raise ValueError(
            f"convert_cmr needs as many cameras as images; got {len(solved)} in {cameras} and {len(listed)} in "
            f"{images}. Take both files from the same place."
        )
    return listed, solved, annotation["S"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Convert CMR's annotation files to a cameras file, as the command line says."""
    parser = argparse.ArgumentParser("python -m kpose.data.cmr", description="Convert CMR's cameras of CUB.")
    parser.add_argument("cache", type=Path, help="folder `cub` of CMR's cachedir")
    parser.add_argument("root", type=Path, help="folder in CUB's layout")
    parser.add_argument("--out", type=Path, help="cameras file; ROOT/sfm/cameras.csv if not given")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        count = convert_cmr(options.cache, options.root, options.out)
    except (ImportError, OSError, ValueError) as error:
        parser.exit(1, f"{error}\n")
    _log.info("Wrote %d cameras.", count)


if __name__ == "__main__":
    main()
