"""``kpose video``: a video in, the same with the meshes of its birds beside it and their camera tracks out."""

import itertools
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from tqdm.auto import tqdm

from kpose._files import existing, fresh_file, safe_name
from kpose._limits import MAX_SIDE
from kpose._messages import counted, one_line
from kpose.cli.interruption import INTERRUPTED, let_finish
from kpose.cli.networks import Networks, Targets, learned_from
from kpose.cli.parser import ArgumentError, report, run
from kpose.cli.results import check_folder, check_replaced

if TYPE_CHECKING:
    from kpose.video import Frame, FramePredictions, VideoPredictor

__all__ = ["main"]

MESH_FILE = re.compile(r"\d{6,}_\d+(_texture)?(\.ply)?\.(glb|mtl|obj|ply|png)")


def main(args: Sequence[str]) -> int:
    """Run the command."""
    return run(
        video_,
        args,
        video={"positional": None, "metavar": "VIDEO"},
        box={"metavar": ("X0", "Y0", "X1", "Y1")},
        lwl={"nargs": "?", "const": "", "metavar": "NAME"},
    )


def video_(
    video: str,
    out: Path,
    networks: Networks,
    targets: Targets,
    smooth: float | None = None,
    meshes: Literal["glb", "obj", "ply"] | None = None,
    no_overlay: bool = False,
    largest: int = 800,
    overwrite: bool = False,
    frames: int | None = None,
    frame_rate: float = 25.0,
) -> int:
    """Reconstruct the birds of a video, frame by frame.

    Writes NAME_overlay.mp4 (the video beside itself with the meshes), NAME_cameras.csv and NAME_cameras.json for
    NAME.mp4. What could be read of a damaged video is written. Objects are looked for in every frame and followed
    by overlap: those that are given, or all that are found.

    Args:
        video: video file, folder of frames, or camera[:NAME] for a camera
        out: folder for the results
        networks: what predicts, and what finds the objects
        targets: what is followed
        smooth: smooth cameras and shapes over so many seconds
        meshes: write every mesh to NAME_meshes/, in this format
        no_overlay: write no video, only the tracks
        largest: most pixels on a side of the overlay (default: 800)
        overwrite: replace results that exist
        frames: stop after so many frames
        frame_rate: frames a second of a folder (default: 25)
    """
    if networks.segmenter is not None and not targets.looks:
        line = "--segmenter excludes --masks, --sam2 and --lwl, which look for nothing; leave it out"
        raise ArgumentError(None, line)
    if not 2 <= largest <= MAX_SIDE:
        raise ArgumentError(None, f"--largest must be from 2 to {MAX_SIDE}; got {largest}")
    if frame_rate <= 0 or (frames is not None and frames < 1):
        raise ArgumentError(None, "--frame-rate and --frames must be positive")
    for path in filter(None, (targets.mask, targets.masks, networks.checkpoint)):
        existing(path, "kpose video", "Correct the path.")
    if video.split(":")[0] != "camera":
        existing(video, "A video", "Check the name.")
    check_folder(out)
    outputs = _outputs(out, video)
    inputs = [Path(video), *networks.checkpoint_files, *([targets.mask] if targets.mask else [])]
    for path in outputs:
        check_replaced(path, inputs, allowed=overwrite)

    # _drawing and _track_files here, not where they are used: Ctrl-C must not come while they are imported.
    from kpose.video import TemporalSmoothing, VideoPredictor, _drawing, _track_files, count_frames, open_frames  # noqa: F401

    faults: list[str] = []
    source = _until_fault(open_frames(video, frame_rate=frame_rate), faults, frames)
    photos = networks.load_predictor(find=targets.looks)
    predictor = VideoPredictor(
        photos,
        targets.load_tracker(networks, photos.segmenter),
        smoothing=None if smooth is None else TemporalSmoothing(smooth),
    )
    writer = _Writer(outputs, video, meshes, None if no_overlay else largest)
    let_finish()
    started = time.perf_counter()
    total = min(filter(None, (frames, count_frames(video))), default=None)
    interrupted = _write(predictor, source, writer, total) and not video.startswith("camera")
    rate = writer.frames / max(time.perf_counter() - started, 1e-9)
    for line in faults:
        report(line)
    if writer.frames:
        if not interrupted:
            _summarize(writer, networks, targets)
        report(
            f"{'Interrupted; the results end there. ' if interrupted else ''}{counted(writer.frames, 'frame')} at "
            f"{rate:.1f} a second, {writer.summary}; the results are in {out}.{learned_from(photos)}"
        )
    elif interrupted:
        report("kpose video: Interrupted.")
    return INTERRUPTED if interrupted else int(bool(faults) or not writer.frames)


class _Outputs(NamedTuple):
    """Names of what is written."""

    video: Path
    table: Path
    record: Path
    meshes: Path


def _outputs(out: Path, video: str) -> _Outputs:
    name = safe_name(Path(video.replace(":", "_")).stem)
    endings = ("overlay.mp4", "cameras.csv", "cameras.json", "meshes")
    return _Outputs(*(out / f"{name}_{ending}" for ending in endings))


class _Writer:
    """What is written frame by frame; nothing is left of a video without a frame, or of a failure."""

    def __init__(self, outputs: _Outputs, video: str, meshes: str | None, largest: int | None) -> None:
        self.frames = 0
        self.predictions = self.invalid = self.failed = 0
        self._outputs, self._video, self._meshes, self._largest = outputs, video, meshes, largest
        self._stack = ExitStack()
        self._kept: set[Path] = set()
        self._add_tracks: Any = None
        self._overlay: Any = None

    @property
    def summary(self) -> str:
        """How many predictions there are, and what is wrong with some."""
        invalid = f", {self.invalid} of them not valid" if self.invalid else ""
        return (
            f"{counted(self.predictions, 'prediction')}{invalid}{f', {self.failed} failed' if self.failed else ''}"
        )

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *error: Any) -> None:  # noqa: ANN401 - kind, error and trace
        self._stack.__exit__(*error)
        if error[0] is None and self._meshes is not None and self._outputs.meshes.is_dir():
            # An earlier run, which this one replaces, has written others for frames and objects that are no more.
            for path in self._outputs.meshes.iterdir():
                if MESH_FILE.fullmatch(path.name) and path not in self._kept:
                    path.unlink()

    def add(self, found: "FramePredictions") -> None:
        from kpose.video._track_files import track_files

        if self._add_tracks is None:
            tracks = track_files(self._outputs.table, self._outputs.record, self._video)
            self._add_tracks = self._stack.enter_context(tracks)
        self._add_tracks(found)
        if self._largest is not None:
            self._draw(found, self._largest)
        for thing in found.objects:
            self.failed += thing.problem == "failed"
            if thing.prediction is not None:
                self.predictions += 1
                self.invalid += not thing.prediction.valid
                if self._meshes is not None:
                    path = self._outputs.meshes / f"{found.frame.number:06}_{thing.identity}.{self._meshes}"
                    self._kept.update(thing.prediction.save(path, overwrite=True))
        self.frames += 1

    def _draw(self, found: "FramePredictions", largest: int) -> None:
        from kpose.video._drawing import draw_objects, side_by_side
        from kpose.visualization import VideoWriter

        picture = side_by_side(found.frame, draw_objects(found.frame, found.objects, largest=largest))
        if self._overlay is None:
            fresh = self._stack.enter_context(fresh_file(self._outputs.video))
            self._overlay = self._stack.enter_context(VideoWriter(fresh, picture.size))
        self._overlay.add(picture, found.frame.time_s)


def _write(predictor: "VideoPredictor", frames: "Iterator[Frame]", writer: _Writer, total: int | None) -> bool:
    """Reconstruct and write frame by frame; return whether that was interrupted."""
    with writer:
        try:
            for found in tqdm(predictor(frames), desc="video", unit="frame", total=total, disable=None):
                writer.add(found)
        except KeyboardInterrupt:  # how a camera is stopped
            return True
    return False


def _until_fault(frames: "Iterator[Frame]", faults: list[str], count: int | None) -> "Iterator[Frame]":
    """Return the frames that can be read, and note why there are no more."""
    try:
        yield from itertools.islice(frames, count)
    except (OSError, ValueError, ImportError) as error:
        faults.append(one_line(error))


def _summarize(writer: _Writer, networks: Networks, targets: Targets) -> None:
    """Report how objects were found, where nothing says how."""
    if writer.failed:
        report(
            "Where predictions failed, the pose is not finite. Check the checkpoint: its training may have failed."
        )
    elif not writer.predictions:
        report("No object was found; give its --box or --mask.")
    elif targets.looks and networks.segmenter is None:
        remedy = "follow them by --sam2" if targets.box or targets.mask else "give a --box for each"
        report(f"Objects were found automatically; where they are wrong, {remedy}.")
