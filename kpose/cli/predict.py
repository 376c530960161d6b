"""``kpose predict``: photos in, and for each a mesh, a picture and a JSON file out, with a page to see them all."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm.auto import tqdm

from kpose._files import existing, file_digest
from kpose._limits import MAX_SIDE
from kpose._messages import counted
from kpose.cli.interruption import INTERRUPTED, let_finish
from kpose.cli.networks import Box, Networks, learned_from
from kpose.cli.parser import FAULTS, ArgumentError, report, run
from kpose.cli.photos import given_photos, report_failure
from kpose.cli.results import (
    SHEET,
    PhotoResult,
    check_folder,
    check_replaced,
    is_marked,
    photo_results,
    read_record,
    write_marked_picture,
)

if TYPE_CHECKING:
    from kpose.inference import Prediction, Predictor

__all__ = ["main"]

SHEET_ROWS = 8
MAX_ROWS = 64  # more are for the page
SURE = 0.5  # score of a pose that is rather right than not
COLOR_STEPS = 63  # of a sheet's file, which is half as large as with 255 and looks the same


def main(args: Sequence[str]) -> int:
    """Run the command."""
    return run(
        predict,
        _with_rows(args),
        photos={"positional": "+", "action": "store", "type": Path, "metavar": "PHOTO"},
        box={"metavar": ("X0", "Y0", "X1", "Y1")},
        sheet={"nargs": "?", "const": SHEET_ROWS, "metavar": "N"},
    )


def _with_rows(args: Sequence[str]) -> list[str]:
    """Add to ``--sheet`` its number of photos where a photo, and no number, comes after it."""
    pairs = zip(args, [*args[1:], ""], strict=True)
    return [
        f"--sheet={SHEET_ROWS}" if word == "--sheet" and not _is_number(after) else word for word, after in pairs
    ]


def _is_number(word: str) -> bool:
    return word.lstrip("+-").isdigit()


@dataclass
class Place:
    """Options of where the object is in a photo.

    Args:
        box: box around the object in pixels, of a single photo
        mask: mask of the object, instead of a box
        whole_frame: take the whole frame for the object, and look for nothing

    Raises:
        ValueError: If options exclude each other.
    """

    box: Box | None = None
    mask: Path | None = None
    whole_frame: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        if (self.box is not None) + (self.mask is not None) + self.whole_frame > 1:
            raise ValueError("--box, --mask and --whole-frame exclude each other; give one of them")

    @property
    def of_one_photo(self) -> bool:
        """Whether it is the place in one photo only."""
        return self.box is not None or self.mask is not None


def predict(
    photos: list[Path],
    out: Path,
    networks: Networks,
    place: Place,
    sheet: int | None = None,
    turntable: bool = False,
    texture_size: int | None = None,
    overwrite: bool = False,
) -> int:
    """Predict camera and mesh of the object in each photo.

    Writes NAME.glb, NAME_overlay.png and NAME.json for NAME.jpg, and index.html, a page with all of them that needs
    no network. What is there already, made from the same photo by the same checkpoint, is not made again. Pixels
    are those of the upright photo, the first one's corner being 0, 0.

    Args:
        photos: photo file of any usual kind, or folder of photos
        out: folder for the results
        networks: what predicts, and what finds the object
        place: where the object is
        sheet: draw the first N photos on one picture, sheet.png: photo, keypoints, overlay, mesh from three sides
            (default: 8)
        turntable: write NAME_turntable.gif as well, in which the mesh turns once
        texture_size: width of the texture that a mesh takes from its photo, twice its height (default: as fine as
            the photo, up to 1024)
        overwrite: make all results again, and replace files of others
    """
    given = place.of_one_photo or place.whole_frame
    if place.of_one_photo and (len(photos) > 1 or photos[0].is_dir()):
        raise ArgumentError(None, "--box and --mask are those of a single photo; call once for each photo")
    if place.whole_frame and networks.segmenter is not None:
        raise ArgumentError(None, "--whole-frame excludes --segmenter; leave it out")
    if sheet is not None and not 1 <= sheet <= MAX_ROWS:
        raise ArgumentError(None, f"--sheet needs a number of photos from 1 to {MAX_ROWS}; got {sheet}")
    if texture_size is not None and not 1 <= texture_size <= MAX_SIDE:
        raise ArgumentError(None, f"--texture-size must be from 1 to {MAX_SIDE}; got {texture_size}")
    check_folder(out)
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # the photo's own line has what matters of it
    failures: dict[Path, str] = {}
    files = [file for path in photos for file in given_photos(path, failures, own=_own)]
    if not files:
        return 1
    for path in filter(None, (place.mask, networks.checkpoint)):
        existing(path, "kpose predict", "Correct the path.")
    if not any(path.exists() for path in files):
        for path in files:
            report(f"{path}: there is no such file")
        return 1
    options = {
        "checkpoint": [file_digest(path) for path in networks.checkpoint_files],
        "image_size": networks.image_size,
        "texture_size": texture_size,
        "box": place.box,
        "mask": file_digest(place.mask) if place.mask is not None and place.mask.is_file() else "",
        "whole_frame": place.whole_frame,
        "segmenter": (None if given else networks.segmenter or "automatic", networks.label),
    }
    results = photo_results(files, out, options, turning=turntable)
    inputs = [*files, *networks.checkpoint_files, *([place.mask] if place.mask else [])]
    for path in (out / "index.html", *([out / SHEET] if sheet else [])):
        check_replaced(path, inputs, allowed=overwrite or is_marked(path))
    pending = {result for result in results if overwrite or not result.is_done()}

    def predict_one(predictor: "Predictor", result: PhotoResult) -> "Prediction":
        from kpose.inference import load_photo

        if result in pending:
            result.check(inputs, overwrite=overwrite)
        [prediction] = predictor(load_photo(result.photo), box=place.box, mask=place.mask)
        if result in pending:
            result.write(prediction)
        return prediction

    predictor = None
    if pending or sheet:
        from kpose.inference import save_mesh  # noqa: F401 - Ctrl-C must not come while it is imported later

        predictor = networks.load_predictor(find=not given, texture_size=texture_size)
    let_finish()
    out.mkdir(parents=True, exist_ok=True)
    work = None if predictor is None else partial(predict_one, predictor)
    code, summary = _finish(work, results, pending, failures, sheet or 0)
    report(f"{summary}{'' if predictor is None else learned_from(predictor)}")
    return code


def _own(folder: Path) -> set[str]:
    """Return the names of what earlier calls have put into a folder."""
    own = {name for name in ("index.html", SHEET) if is_marked(folder / name)}
    for file in folder.glob("*.json"):
        if record := read_record(file):
            own |= {file.name, *record.get("files", ())}
    return own


def _finish(
    predict_one: "Callable[[PhotoResult], Prediction] | None",
    results: Sequence[PhotoResult],
    pending: set[PhotoResult],
    failures: dict[Path, str],
    rows: int,
) -> tuple[int, str]:
    """Predict what is pending and what the sheet of so many rows shows; write page and sheet.

    Returns exit code and summary.
    """
    from kpose.cli.page import write_page

    out, code, drawn = results[0].folder, 0, ""
    located_by = Counter[str]()
    shown: dict[str, Prediction] = {}
    try:
        for result in tqdm(results, desc="predict", unit="photo", disable=None):
            if predict_one is None or (result not in pending and len(shown) >= rows):
                continue
            try:
                prediction = predict_one(result)
            except FAULTS as error:
                report_failure(result.photo, error, failures)
                continue
            located_by[prediction.located_by] += 1
            if len(shown) < rows:
                shown[result.name] = replace(prediction)  # without the pictures that it keeps
    except KeyboardInterrupt:
        code = INTERRUPTED
    if not code and (whole := located_by["frame"]):
        report(f"The whole frame of {counted(whole, 'photo')} was taken.")
    try:
        if shown and not code:
            _write_sheet(out / SHEET, shown)
            drawn = f" and {out / SHEET}"
    finally:
        page = write_page(out, failures)
    before = len(results) - len(pending)
    done = [read_record(result.record) for result in results if result.is_done()]
    invalid = sum(not record["valid"] for record in done)
    scores = [record["score"] for record in done if record.get("score") is not None]
    sure = f", {sum(score >= SURE for score in scores)} of them sure" if scores else ""
    notes = (f", {count} of them {what}" for count, what in ((before, "before"), (invalid, "not valid")) if count)
    summary = f"Predicted {len(done)} of {counted(len(results), 'photo')}{''.join(notes)}{sure}; see {page}{drawn}."
    if code:
        summary = f"Interrupted; the same call goes on from here. {summary}"
    return code or int(bool(failures)), summary


def _write_sheet(path: Path, predictions: "dict[str, Prediction]") -> None:
    from kpose.inference import prediction_sheet
    from kpose.visualization import to_pillow

    sheet = prediction_sheet([*predictions.values()], [*predictions])
    write_marked_picture(path, to_pillow((COLOR_STEPS * sheet).round() / COLOR_STEPS))
