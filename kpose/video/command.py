"""``kpose video``: a video in, the same with the meshes of its birds beside it and their camera tracks out."""

import argparse
import itertools
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from kpose.data import read_identities
from kpose.files import fresh_file, real_path, safe_name
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
from kpose.messages import one_line
from kpose.video.association import AssociationTracker
from kpose.video.disk import DiskTracker, read_mask_folder
from kpose.video.drawing import draw_objects, side_by_side
from kpose.video.frames import Frame, count_frames, open_frames
from kpose.video.lwl import LWLTracker
from kpose.video.predictor import FramePredictions, VideoPredictor
from kpose.video.sam2 import Sam2Tracker
from kpose.video.smoothing import TemporalSmoothing
from kpose.video.track_files import TrackFiles
from kpose.video.tracker import Target, Tracker
from kpose.visualization import VideoWriter

__all__ = ["main"]

FAULTS = (OSError, ValueError, RuntimeError, MemoryError, ImportError, AssertionError)  # the last: no CUDA

MESH_FILE = re.compile(r"\d{6,}_\d+(_texture)?\.(glb|mtl|obj|ply|png)")


class _Run(NamedTuple):
    """What a run came to."""

    frames: int
    predictions: int
    interrupted: bool


class _Outputs(NamedTuple):
    """Names of what is written."""

    video: Path
    table: Path
    record: Path
    meshes: Path


def main(args: Sequence[str] | None = None) -> int:
    """Reconstruct the birds of a video.

    What could be read of a damaged video is written, and the code says so.

    Args:
        args: Arguments after ``kpose video``; those of the process when None.

    Returns:
        0 if the whole video was read, or a camera until it was interrupted; 1 if a part of a video could not be
        read or nothing can be done, and 130 if a video was interrupted; one line says why.

    Raises:
        SystemExit: If the arguments are wrong (code 2), or ask for help.
    """
    parser = _parser()
    options = parser.parse_args(args)
    _check(parser, options)
    faults: list[str] = []
    try:
        outputs = _outputs(options)
        frames = _until_fault(open_frames(options.video, frame_rate=options.frame_rate), faults, options.frames)
        predictor = load_predictor(options, segmenter=None)
        smoothing = None if options.smooth is None else TemporalSmoothing(options.smooth)
        video = VideoPredictor(predictor, _tracker(options), smoothing=smoothing)
        started = time.perf_counter()
        run = _run(video, frames, outputs, options)
    except FAULTS as error:
        line = one_line(error)
        _say(line if options.video in line else f"{options.video}: {line}")
        return 1
    rate = run.frames / max(time.perf_counter() - started, 1e-9)
    cut = run.interrupted and options.video.split(":")[0] != "camera"  # which is stopped like this
    for line in (*faults, *(["Interrupted; the results end there."] if cut else [])):
        _say(line)
    if run.frames:
        _tell(run, rate, options)
    if cut:
        return INTERRUPTED
    return 1 if faults or not run.frames else 0


def _tell(run: _Run, rate: float, options: argparse.Namespace) -> None:
    if not run.predictions:
        _say("No object was found; give its --box or --mask.")
    elif not (options.box or options.mask or options.masks or options.segmenter):
        model = segmenter_name(options)
        by = "by what stands out" if model is None else f"by {model}, and by what stands out where it found none"
        _say(f"Objects were looked for {by}; where they are not, give a --box for each.")
    _say(
        f"{run.frames} frames at {rate:.1f} a second, {run.predictions} predictions; the results are in "
        f"{options.out}."
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kpose video",
        description="Reconstruct the birds of a video, frame by frame. Writes NAME_overlay.mp4 (the video beside "
        "itself with the meshes), NAME_cameras.csv and NAME_cameras.json for NAME.mp4.",
    )
    parser.add_argument(
        "video", metavar="VIDEO", help="video file, folder of frames, or camera[:NAME] for a camera"
    )
    parser.add_argument("--out", required=True, type=output_folder, metavar="DIR", help="folder for the results")
    targets = parser.add_argument_group(
        "what to follow",
        "What is found, if not said. Boxes are numbered from 1 in their order.",
    )
    targets.add_argument(
        "--box", nargs=4, type=float, action="append", default=[], metavar=("X0", "Y0", "X1", "Y1"),
        help="box around an object in the first frame, in pixels; may be given several times",
    )  # fmt: skip
    targets.add_argument("--mask", type=Path, metavar="FILE", help="mask of the first frame, with identities")
    targets.add_argument("--masks", type=Path, metavar="DIR", help="masks of every frame, PNG files in order")
    trackers = parser.add_argument_group("how to follow it", "By colours and motion, if not said.")
    trackers.add_argument("--sam2", metavar="MODEL", help="by SAM 2: a folder, or a name on the Hugging Face Hub")
    trackers.add_argument("--lwl", nargs="?", const="", metavar="NAME", help="by LWL of an installed pytracking")
    trackers.add_argument("--smooth", type=float, metavar="S", help="smooth cameras and shapes over S seconds")
    results = parser.add_argument_group("results")
    results.add_argument("--meshes", choices=("glb", "obj", "ply"), help="write every mesh to NAME_meshes/")
    results.add_argument("--no-overlay", action="store_true", help="write no video, only the tracks")
    results.add_argument(
        "--largest", type=int, default=800, metavar="N", help="most pixels on a side of the overlay (default: 800)"
    )
    results.add_argument("--overwrite", action="store_true", help="replace results that exist")
    parser.add_argument("--frames", type=int, metavar="N", help="stop after N frames")
    parser.add_argument(
        "--frame-rate", type=float, default=25.0, metavar="R", help="frames a second of a folder (default: 25)"
    )
    add_predictor_options(parser)
    return parser


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    check_predictor_options(parser, options)
    if sum((bool(options.box), options.mask is not None, options.masks is not None)) > 1:
        parser.error("--box, --mask and --masks exclude each other; give one of them")
    told = options.box or options.mask is not None
    if (options.sam2 is not None or options.lwl is not None) and not told:
        parser.error("--sam2 and --lwl need a --box or --mask in the first frame")
    if options.sam2 is not None and options.lwl is not None:
        parser.error("--sam2 and --lwl exclude each other; give one of them")
    if options.segmenter is not None and any(way is not None for way in (options.masks, options.sam2, options.lwl)):
        parser.error("--segmenter excludes --masks, --sam2 and --lwl, which look for nothing; leave it out")
    if options.largest < 2 or options.frame_rate <= 0 or (options.frames is not None and options.frames < 1):
        parser.error("--largest, --frame-rate and --frames must be positive")


def _outputs(options: argparse.Namespace) -> _Outputs:
    """Name the results, and refuse to replace what is there unless that is asked for."""
    name = safe_name(Path(options.video.replace(":", "_")).stem, "video")
    outputs = _Outputs(
        options.out / f"{name}_overlay.mp4",
        options.out / f"{name}_cameras.csv",
        options.out / f"{name}_cameras.json",
        options.out / f"{name}_meshes",
    )
    given = (Path(options.video), *checkpoint_files(options), options.mask)
    inputs = {real_path(path) for path in given if path is not None}
    for path in outputs:
        if real_path(path) in inputs:
            raise ValueError(f"Its result {path} would replace an input. Choose another --out.")
        if path.exists() and not options.overwrite:
            raise FileExistsError(f"Its result {path} exists. Choose another --out, or give --overwrite.")
    return outputs


def _tracker(options: argparse.Namespace) -> Tracker[Any]:
    if options.masks is not None:
        return DiskTracker(read_mask_folder(options.masks))
    targets: dict[int, Target] = {number + 1: tuple(box) for number, box in enumerate(options.box)}
    if options.mask is not None:
        identities = torch.from_numpy(read_identities(options.mask))
        targets = {int(k): identities == k for k in identities.unique() if k}  # type: ignore[no-untyped-call]
    if options.sam2 is not None:
        return Sam2Tracker.from_pretrained(options.sam2, targets, device=options.device)
    if options.lwl is not None:
        return LWLTracker(targets, parameters=options.lwl or None, device=options.device)
    segmenter = None if targets and options.segmenter is None else load_segmenter(options)
    return AssociationTracker(targets, segmenter=segmenter)


def _until_fault(frames: Iterator[Frame], faults: list[str], count: int | None) -> Iterator[Frame]:
    """Give the frames that can be read, and note why there are no more."""
    try:
        yield from itertools.islice(frames, count)
    except (OSError, ValueError, ImportError) as error:
        faults.append(one_line(error))


def _run(video: VideoPredictor, frames: Iterable[Frame], outputs: _Outputs, options: argparse.Namespace) -> _Run:
    """Reconstruct and write frame by frame."""
    count = seen = 0
    interrupted = True
    meshes: set[Path] = set()
    tracks: TrackFiles | None = None
    writer: VideoWriter | None = None
    total = min(filter(None, (options.frames, count_frames(options.video))), default=None)
    with ExitStack() as stack, suppress(KeyboardInterrupt):  # how a camera is stopped
        for found in tqdm(video(frames), desc="video", unit="frame", total=total, disable=None):
            if tracks is None:  # of a video without a frame, nothing is left behind
                tracks = stack.enter_context(TrackFiles(outputs.table, outputs.record, str(options.video)))
            tracks.add(found)
            if not options.no_overlay:
                sheet = side_by_side(found.frame, draw_objects(found.frame, found.objects, largest=options.largest))
                if writer is None:
                    fresh = stack.enter_context(fresh_file(outputs.video))
                    writer = stack.enter_context(VideoWriter(fresh, sheet.size))
                writer.add(sheet, found.frame.time_s)
            if options.meshes is not None:
                meshes.update(_write_meshes(found, outputs.meshes, options.meshes))
            count += 1
            seen += sum(thing.prediction is not None for thing in found.objects)
        interrupted = False
    if options.meshes is not None and outputs.meshes.is_dir():
        _remove_meshes(outputs.meshes, kept=meshes)
    return _Run(count, seen, interrupted)


def _write_meshes(found: FramePredictions, folder: Path, kind: str) -> Iterator[Path]:
    for thing in found.objects:
        if thing.prediction is not None:
            path = folder / f"{found.frame.number:06}_{thing.identity}.{kind}"
            yield from thing.prediction.save(path, overwrite=True)


def _remove_meshes(folder: Path, kept: set[Path]) -> None:
    """Remove what an earlier run, which this one replaces, has written for frames and objects that are no more."""
    for path in folder.iterdir():
        if MESH_FILE.fullmatch(path.name) and path not in kept:
            path.unlink()


def _say(line: str) -> None:
    """Write a line to standard error, above the progress bar."""
    tqdm.write(line, file=sys.stderr)
