"""``kpose predict``: photos in, and for each a mesh, a picture and a JSON file out, with a page to see them all."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor
from tqdm import tqdm

from kpose.files import file_digest, real_path
from kpose.inference.options import (
    INTERRUPTED,
    add_predictor_options,
    check_predictor_options,
    checkpoint_files,
    load_predictor,
    load_segmenter,
    output_folder,
    segmenter_name,
)
from kpose.inference.page import write_page
from kpose.inference.photo import load_photo
from kpose.inference.prediction import Prediction
from kpose.inference.predictor import Predictor
from kpose.inference.results import PhotoResult, made_by_kpose, output_names, settings_of
from kpose.inference.segmentation import SaliencySegmenter
from kpose.inference.sheet import sheet_row
from kpose.inference.sheet_file import check_sheet, write_sheet
from kpose.messages import one_line

__all__ = ["main"]

# What is taken from a folder; files that are named may be of any kind that Pillow reads.
PHOTO_SUFFIXES = {".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
# What a photo, a checkpoint or the disk may be to blame for; the assertion is torch's, where there is no CUDA.
ERRORS = (OSError, ValueError, RuntimeError, MemoryError, AssertionError)

SHEET = "sheet.png"
SHEET_ROWS = 8
MOST_ROWS = 64  # more are for the page


def main(args: Sequence[str] | None = None) -> int:
    """Predict the pose in photo files.

    A photo that cannot be used is reported in one line, and the others are still predicted. What an earlier call
    has made from the same photo, checkpoint and options is not made again.

    Args:
        args: Arguments after ``kpose predict``; those of the process when None.

    Returns:
        0 if every photo was predicted, 1 if one was not or the checkpoint cannot be used, 130 if interrupted.

    Raises:
        SystemExit: If the arguments are wrong (code 2), or ask for help.
    """
    parser = _parser()
    options = parser.parse_args(args)
    _check(parser, options)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what matters of it is said in the photo's own line
    failures: list[tuple[Path, str]] = []
    try:
        photos = [photo for path in options.photos for photo in _photos(path, failures)]
        jobs = _jobs(photos, options)
        pending = {job for job in jobs if options.overwrite or not job.result.is_done(job.made_from)}
        inputs = {real_path(path) for path in (*photos, *checkpoint_files(options), *filter(None, [options.mask]))}
        if options.sheet is not None:
            check_sheet(options.out / SHEET, inputs, overwrite=options.overwrite)
        predictor = _load(options) if pending or (jobs and options.sheet) else None
        if jobs:
            options.out.mkdir(parents=True, exist_ok=True)
    except ERRORS as error:
        _say(one_line(error))
        return 1
    if not jobs:
        return 1
    code, rows = 0, dict[str, dict[str, Tensor]]()
    try:
        if predictor is not None:
            _predict(predictor, _Work(jobs, pending, inputs, rows, failures), options)
    except KeyboardInterrupt:
        _say("Interrupted; the same call goes on from here.")
        code = INTERRUPTED
    try:
        page = write_page(options.out, failures, overwrite=options.overwrite)
        if rows and not code:
            write_sheet(options.out / SHEET, rows)
    except ERRORS as error:
        _say(one_line(error))
        return 1
    kept = f", {len(jobs) - len(pending)} of them before" if len(pending) < len(jobs) else ""
    done = sum(job.result.is_done(job.made_from) for job in jobs)
    drawn = f" and {options.out / SHEET}" if rows and not code else ""
    _say(f"Predicted {done} of {len(jobs)} photos{kept}; see {page}{drawn}.")
    return code or int(bool(failures))


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if options.box is not None and options.mask is not None:
        parser.error("--box and --mask exclude each other; give one of them")
    single = len(options.photos) == 1 and not options.photos[0].is_dir()
    if not single and (options.box is not None or options.mask is not None):
        parser.error("--box and --mask are those of a single photo; call once for each photo")
    told = (options.box, options.mask, options.segmenter)
    if options.whole_frame and any(option is not None for option in told):
        parser.error("--whole-frame excludes --box, --mask and --segmenter; leave it out")
    if options.sheet is not None and not 1 <= options.sheet <= MOST_ROWS:
        parser.error(f"--sheet needs a number of photos from 1 to {MOST_ROWS}; got {options.sheet}")
    check_predictor_options(parser, options)


class _Job(NamedTuple):
    """One photo, what it becomes, and what that depends on."""

    photo: Path
    result: PhotoResult
    made_from: str


class _Work(NamedTuple):
    """What a call has to do, and what comes of it."""

    jobs: Sequence[_Job]
    pending: set[_Job]
    """Those of the jobs whose results are not there yet."""
    inputs: set[Path]
    """Files that must not be replaced."""
    rows: dict[str, dict[str, Tensor]]
    """What is on the sheet, by the names of the photos; filled."""
    failures: list[tuple[Path, str]]
    """Photos that cannot be used, with the reasons; filled."""


def _photos(path: Path, failures: list[tuple[Path, str]]) -> list[Path]:
    """List the photos of a folder, without what an earlier call has put there; a file is given back.

    A folder that has none is noted among the failures.
    """
    if not path.is_dir():
        return [path]
    found = sorted(
        entry
        for entry in path.iterdir()
        if entry.suffix.lower() in PHOTO_SUFFIXES and not entry.name.startswith(".") and not made_by_kpose(entry)
    )
    if not found:
        failures.append((path, f"A folder needs photos; {path} has none. Name another, or the files themselves."))
        _say(failures[-1][1])
    return found


def _jobs(photos: Sequence[Path], options: argparse.Namespace) -> list[_Job]:
    settings = {
        "checkpoint": [file_digest(path) for path in checkpoint_files(options)],
        "image_size": options.image_size,
        "box": options.box,
        "mask": file_digest(options.mask) if options.mask is not None and options.mask.is_file() else "",
        "whole_frame": options.whole_frame,
        "segmenter": (None if _is_located(options) else segmenter_name(options), options.label),
    }
    jobs = []
    for photo, name in zip(photos, output_names(photos, options.out), strict=True):
        # What cannot be read is said when its turn comes.
        made_from = settings_of(photo, settings) if photo.is_file() else ""
        jobs.append(_Job(photo, PhotoResult(options.out, name, options.turntable), made_from))
    return jobs


def _load(options: argparse.Namespace) -> Predictor:
    return load_predictor(options, None if _is_located(options) else load_segmenter(options))


def _is_located(options: argparse.Namespace) -> bool:
    return options.whole_frame or options.box is not None or options.mask is not None


def _predict(predictor: Predictor, work: _Work, options: argparse.Namespace) -> None:
    """Predict what is to be done, and draw the first photos that can be used for the sheet."""
    whole = found = 0
    for job in tqdm(work.jobs, desc="predict", unit="photo", disable=None):
        if job not in work.pending and len(work.rows) >= (options.sheet or 0):
            continue
        prediction = _attempt(predictor, job, work, options)
        if isinstance(prediction, str):
            work.failures.append((job.photo, prediction))
            _say(prediction if str(job.photo) in prediction else f"{job.photo}: {prediction}")
        else:
            whole += prediction.box is None
            found += prediction.located_by == SaliencySegmenter.__name__
    if found:
        _say(f"In {found} of the photos what stands out was taken for the object; where it is not, give its --box.")
    if whole:
        _say(f"Of {whole} of the photos the whole frame was taken.")


def _attempt(predictor: Predictor, job: _Job, work: _Work, options: argparse.Namespace) -> Prediction | str:
    """Give what a photo gave, after it has been written, or the line that says why there is nothing."""
    pending = job in work.pending
    try:
        if pending:
            job.result.check(job.photo, work.inputs, overwrite=options.overwrite)
        [prediction] = predictor(load_photo(job.photo), box=options.box, mask=options.mask)
        if pending:
            job.result.write(job.photo, job.made_from, prediction)
        if len(work.rows) < (options.sheet or 0):
            work.rows[job.result.name] = sheet_row(prediction)
    except ERRORS as error:
        return one_line(error)
    return prediction


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kpose predict",
        description="Predict camera and mesh of the object in each photo. Writes NAME.glb, NAME_overlay.png and "
        "NAME.json for NAME.jpg, and index.html, a page with all of them that needs no network. What is there "
        "already, made from the same photo by the same checkpoint, is not made again. Pixels are those of the "
        "upright photo, the first one's corner being 0, 0.",
    )
    parser.add_argument(
        "photos", nargs="+", type=Path, metavar="PHOTO", help="photo file of any usual kind, or folder of photos"
    )
    parser.add_argument("--out", required=True, type=output_folder, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--box", nargs=4, type=float, metavar=("X0", "Y0", "X1", "Y1"),
        help="box around the object in pixels, of a single photo",
    )  # fmt: skip
    parser.add_argument("--mask", type=Path, metavar="FILE", help="mask of the object, in place of a box")
    parser.add_argument(
        "--whole-frame", action="store_true",
        help="take the whole frame for the object, and look for nothing",
    )  # fmt: skip
    parser.add_argument(
        "--sheet", nargs="?", type=int, const=SHEET_ROWS, metavar="N",
        help=f"draw the first N photos on one picture, {SHEET}: photo, keypoints, overlay, mesh from three sides "
        f"(default: {SHEET_ROWS})",
    )  # fmt: skip
    parser.add_argument(
        "--turntable", action="store_true", help="write NAME_turntable.gif as well, in which the mesh turns once"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="make all results anew, and replace files of others"
    )
    add_predictor_options(parser)
    return parser


def _say(line: str) -> None:
    """Write a line to standard error, above the progress bar."""
    tqdm.write(line, file=sys.stderr)
