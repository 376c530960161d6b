"""``kpose masks``: photos in, and for each a mask of the object out, as training from a folder reads them."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from os.path import realpath
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tqdm.auto import tqdm

from kpose._files import write_file
from kpose._messages import counted
from kpose.cli.interruption import INTERRUPTED, let_finish
from kpose.cli.networks import Finder
from kpose.cli.parser import FAULTS, ArgumentError, report, run
from kpose.cli.photos import given_photos, report_failure
from kpose.cli.results import check_folder

if TYPE_CHECKING:
    from kpose.inference.segmentation import Segmenter

__all__ = ["main"]

AT_ONCE = 8  # photos that are in memory and that the segmenter sees together


def main(args: Sequence[str]) -> int:
    """Run the command."""
    return run(masks, args, photos={"positional": "+", "action": "store", "type": Path, "metavar": "PHOTO"})


def masks(photos: list[Path], out: Path, finder: Finder, overwrite: bool = False) -> int:
    """Find the object in each photo, and write its mask, for training.

    Writes NAME.png for NAME.jpg, of the upright photo's size, 255 where the object is and 0 elsewhere. Photos in
    folders of a folder have their masks in folders of the same names. Masks that are there are kept.

    Args:
        photos: photo file of any usual kind, or folder of photos and of folders with photos
        out: folder for the masks; beside a folder images, masks is where kpose fit and kpose pipeline look for them
        finder: what finds the object
        overwrite: make masks again that are there
    """
    check_folder(out)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # the photo's own line has what matters of it
    failures: dict[Path, str] = {}
    targets = dict(_targets(photos, out, failures))
    pending = {photo: mask for photo, mask in targets.items() if overwrite or not mask.exists()}
    nothing: list[Path] = []
    code = 0
    if pending:
        from kpose.inference.segmentation import automatic_segmenter

        segmenter = finder.load_segmenter() or automatic_segmenter(device=finder.device)
        assert segmenter is not None  # that for birds comes with kpose
        let_finish()
        try:
            for photo in _write(pending, segmenter, failures):
                report(f"{photo}: no {finder.label or 'bird'} is found in it")
                nothing.append(photo)
        except KeyboardInterrupt:
            code = INTERRUPTED
    if targets:
        done = sum(mask.exists() for mask in targets.values())
        numbers = (
            (len(targets) - len(pending), "of them before"),
            (len(nothing), "without an object"),
            (len(failures), "that cannot be used"),
        )
        notes = "".join(f", {number} {what}" for number, what in numbers if number)
        start = "Interrupted; the same call goes on from here. " if code else ""
        report(f"{start}Masks of {done} of {counted(len(targets), 'photo')}{notes}; see {out}.")
    return code or int(bool(failures))


def _targets(paths: Sequence[Path], out: Path, failures: dict[Path, str]) -> Iterator[tuple[Path, Path]]:
    """Yield photos with the places of their masks."""
    taken: dict[Path, Path] = {}
    for path in paths:
        folder = path if path.is_dir() else path.parent
        if realpath(folder) == realpath(out):
            raise ArgumentError(None, f"--out needs a folder without photos; {out} is theirs")
        for photo in given_photos(path, failures, deep=True):
            if Path(realpath(out)) in Path(realpath(photo)).parents:
                continue  # a mask, where --out is in the folder of photos
            mask = out / photo.relative_to(folder).with_suffix(".png")
            if taken.setdefault(mask, photo) != photo:
                fault = ValueError(f"it has the name of {taken[mask]}, whose mask is {mask}. Rename one of them.")
                report_failure(photo, fault, failures)
            else:
                yield photo, mask


def _write(pending: Mapping[Path, Path], segmenter: "Segmenter", failures: dict[Path, str]) -> Iterator[Path]:
    """Write masks, and yield the photos without an object."""
    from kpose.inference.segmentation import find_masks

    paths = [*pending]
    with tqdm(desc="masks", total=len(paths), unit="photo", disable=None) as bar:
        for start in range(0, len(paths), AT_ONCE):
            some = paths[start : start + AT_ONCE]
            read = {path: photo for path in some if (photo := _read(path, failures)) is not None}
            found = find_masks([*read.values()], segmenter)
            for path, mask in zip(read, found, strict=True):
                if mask is None:
                    pending[path].unlink(missing_ok=True)  # what an earlier call found
                    yield path
                else:
                    write_file(pending[path], partial(mask.save, format="PNG", optimize=True))
            bar.update(len(some))


def _read(path: Path, failures: dict[Path, str]) -> Image.Image | None:
    from kpose.inference import load_photo

    try:
        return load_photo(path)
    except FAULTS as error:
        report_failure(path, error, failures)
        return None
