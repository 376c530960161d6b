"""``kpose predict``: photo files in, one JSON file and one picture for each out."""

import argparse
import json
import logging
import re
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

import kpose
from kpose.geometry.rotation import matrix_to_quaternion
from kpose.inference.photo import load_photo
from kpose.inference.predictor import Predictor
from kpose.inference.reconstruction import Reconstruction
from kpose.structures import Camera
from kpose.visualization import to_pillow

__all__ = ["main", "output_names", "prediction_record"]

LONGEST_NAME = 100


def main(args: Sequence[str] | None = None) -> int:
    """Predict the pose in photo files.

    A photo that cannot be used is reported in one line, and the others are still predicted.

    Args:
        args: Arguments after ``kpose predict``; those of the process when None.

    Returns:
        0 if every photo was predicted, 1 if one was not or the checkpoint cannot be used.

    Raises:
        SystemExit: If the arguments are wrong (code 2), or ask for help.
    """
    parser = _parser()
    options = parser.parse_args(args)
    if options.box is not None and options.mask is not None:
        parser.error("--box and --mask exclude each other; give one of them")
    if len(options.photos) > 1 and (options.box is not None or options.mask is not None):
        parser.error("--box and --mask are those of a single photo; call once for each photo")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what matters of it is said in the photo's own line
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        predictor = Predictor.from_checkpoint(
            options.checkpoint,
            device=options.device,
            image_size=options.image_size,
            trusted_modules=options.trust,
        )
    except (OSError, ValueError, RuntimeError, AssertionError) as error:  # the last: no CUDA
        _say(_line(error))
        return 1
    failures = 0
    names = output_names(options.photos)
    inputs = {path.resolve() for path in (*options.photos, options.checkpoint, *filter(None, [options.mask]))}
    pairs = list(zip(options.photos, names, strict=True))
    for photo, name in tqdm(pairs, desc="predict", unit="photo", disable=None):
        outputs = options.out / f"{name}.json", options.out / f"{name}_overlay.png"
        try:
            _check_outputs(outputs, inputs, overwrite=options.overwrite)
            _predict_file(predictor, photo, outputs, box=options.box, mask=options.mask)
        except (OSError, ValueError, RuntimeError, MemoryError) as error:
            failures += 1
            line = _line(error)
            _say(line if str(photo) in line else f"{photo}: {line}")
    _say(f"Predicted {len(names) - failures} of {len(names)} photos; the results are in {options.out}.")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kpose predict",
        description="Predict the camera of the object in each photo. Writes NAME.json and NAME_overlay.png for "
        "NAME.jpg. Pixels are those of the upright photo, the first one's corner being 0, 0.",
    )
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="photo file, of any usual kind")
    parser.add_argument(
        "--checkpoint", required=True, type=Path, metavar="CKPT", help="what `kpose fit` has written"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--box", nargs=4, type=float, metavar=("X0", "Y0", "X1", "Y1"),
        help="box around the object in pixels, of a single photo; the whole frame is taken when not given",
    )  # fmt: skip
    parser.add_argument("--mask", type=Path, metavar="FILE", help="mask of the object, in place of a box")
    parser.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--device", default="cpu", help="where the network runs, such as cuda (default: cpu)")
    parser.add_argument(
        "--image-size", type=int, metavar="N", help="side of the crops, if the checkpoint does not know it"
    )
    parser.add_argument(
        "--trust", action="append", default=[], metavar="MODULE",
        help="module of your own that the checkpoint takes classes from; importing it runs its code",
    )  # fmt: skip
    return parser


def output_names(photos: Sequence[Path]) -> list[str]:
    """Choose a file name, without extension, for the results of each photo.

    The photo's own name, with characters that a file system might refuse replaced; photos of the same name are
    numbered in their order, so that no two share a name on any file system.

    Args:
        photos: Photo files.

    Returns:
        Names, in the same order.

    Example:
        >>> output_names([Path("a/robin.jpg"), Path("b/robin.png"), Path("wren?.jpg")])
        ['robin', 'robin-2', 'wren_']
    """
    taken: set[str] = set()
    names = []
    for photo in photos:
        stem = re.sub(r"[^\w.-]", "_", photo.stem)[:LONGEST_NAME].lstrip(".-") or "photo"
        while len(stem.encode()) > 2 * LONGEST_NAME:
            stem = stem[:-1]
        name, number = stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names


def prediction_record(prediction: Reconstruction) -> dict[str, Any]:
    """Describe a prediction in plain values, as ``kpose predict`` writes it.

    Args:
        prediction: Prediction.

    Returns:
        What `json.dumps` takes: version, size of the photo, the box that was used (None for the whole frame), the
        square that was cut out, whether the camera is valid, the camera of the photo and of the crop (scale,
        translation, rotation matrix by rows, quaternion ``w, x, y, z``), and keypoints with confidence and inliers,
        or None for a head without keypoints.

    Raises:
        ValueError: If the camera or a keypoint is not finite.
    """
    numbers = [*prediction.camera, *prediction.crop_camera]
    if prediction.keypoints is not None and prediction.confidence is not None:
        numbers += [prediction.keypoints, prediction.confidence]
    if not all(bool(tensor.isfinite().all()) for tensor in numbers):
        raise ValueError("The predicted pose is not finite. Check the checkpoint: its training may have failed.")
    return {
        "kpose": kpose.__version__,
        "size": {"height": prediction.size[0], "width": prediction.size[1]},
        "box": None if prediction.box is None else list(prediction.box),
        "square": list(prediction.square),
        "valid": prediction.valid,
        "camera": {
            "pixels": _camera_record(prediction.camera),
            "crop": _camera_record(prediction.crop_camera),
        },
        "keypoints": _plain(prediction.keypoints),
        "confidence": _plain(prediction.confidence),
        "inliers": _plain(prediction.inliers),
    }


def _camera_record(camera: Camera) -> dict[str, Any]:
    return {
        "scale": camera.scale.item(),
        "translation": _plain(camera.translation),
        "rotation": _plain(camera.rotation),
        "quaternion": _plain(matrix_to_quaternion(camera.rotation)),
    }


def _plain(tensor: Tensor | None) -> Any:  # noqa: ANN401
    return None if tensor is None else tensor.tolist()


def _predict_file(
    predictor: Predictor,
    path: Path,
    outputs: tuple[Path, Path],
    *,
    box: Sequence[float] | None,
    mask: Path | None,
) -> None:
    photo = load_photo(path)
    if box is None and mask is None:
        _say(f"{path}: no --box or --mask is given, so the whole frame is taken.")
    [prediction] = predictor(photo, box=box, mask=mask)
    text = json.dumps({"photo": str(path), **prediction_record(prediction)}, indent=2, allow_nan=False)
    # The numbers of a point, or of a row of a matrix, share a line.
    text = re.sub(r"\[\n([^][{}\"]*)\]", lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"
    overlay = to_pillow(prediction.overlay())
    # The JSON file comes last: where it is, both are whole.
    _write(outputs[1], lambda fresh: overlay.save(fresh, "PNG"))
    _write(outputs[0], lambda fresh: fresh.write_text(text, encoding="utf-8"))


def _check_outputs(outputs: Sequence[Path], inputs: set[Path], *, overwrite: bool) -> None:
    for path in outputs:
        if path.resolve() in inputs:
            raise ValueError(f"Its result {path} would replace an input. Choose another --out.")
        if path.exists() and not overwrite:
            raise FileExistsError(f"Its result {path} exists. Choose another --out, or give --overwrite.")


def _write(path: Path, save: Callable[[Path], object]) -> None:
    """Write a file under a temporary name beside it, then rename it."""
    fresh = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        save(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _say(line: str) -> None:
    """Write a line to standard error, above the progress bar."""
    tqdm.write(line, file=sys.stderr)
