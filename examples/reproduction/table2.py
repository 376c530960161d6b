"""Table 2 of Gharaee et al. 2022: the birds of annotated videos, reconstructed online by each head.

    python examples/reproduction/table2.py --checkpoints table1-cub --davis $KPOSE_DAVIS_ROOT --out table2
    python examples/reproduction/table2.py --checkpoints svd=svd.ckpt mine=folder bird --youtube-vos y --out table2

Silhouettes, drawn at the size of the frame, are compared with the annotated masks. What is done is not done again:
run the same command to go on after a kill. The folder has ``table2.json``, ``results.md``, the plot ``table2.png``
and, in ``tracks``, the scores of each head and sequence.
"""

import argparse
import hashlib
import json
import logging
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from kpose._files import SHIPPED_WEIGHTS, write_text
from kpose._messages import one_line
from kpose.data import VideoSequence, read_davis, read_youtube_vos
from kpose.inference import Predictor, shipped_networks
from kpose.inference.segmentation import Segmenter, TransformersSegmenter, automatic_segmenter
from kpose.video import LWLTracker, OverlapTracker, Sam2Tracker

from figures import LABELS, markdown, origin
from plots import draw_table2
from sequence_scores import Follow, follow_annotation, score_sequence

PAPER = {  # Gharaee et al. 2022, Table 2
    "quaternion": {"jaccard_mean": 0.45, "jaccard_recall": 0.48, "jaccard_decay": 0.020},
    "gram_schmidt": {"jaccard_mean": 0.40, "jaccard_recall": 0.27, "jaccard_decay": 0.007},
    "svd": {"jaccard_mean": 0.44, "jaccard_recall": 0.43, "jaccard_decay": 0.028},
    "keypoint": {"jaccard_mean": 0.45, "jaccard_recall": 0.53, "jaccard_decay": 0.018},
}
FAULTS = (OSError, ValueError, RuntimeError, ImportError, AssertionError)  # the last: torch has no CUDA

logger = logging.getLogger("table2")


def main(args: Sequence[str] | None = None) -> None:
    """Make the table; exit with one line that says why where that cannot be done."""
    given = list(sys.argv[1:] if args is None else args)
    parser = _parser()
    options = parser.parse_args(given)
    if options.davis is None and options.youtube_vos is None:
        parser.error("give the folder of --davis, of --youtube-vos, or both")
    if options.unsupervised and options.overlap is None:
        parser.error("--unsupervised needs --overlap: the other trackers start from masks")
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        figures = {
            "table": "table2",
            "origin": origin(["python", "examples/reproduction/table2.py", *given]),
            **table2(
                _checkpoints(options.checkpoints),
                _sequences(options),
                options.out,
                *_tracker(options),
                load=partial(_load, device=options.device, trusted_modules=options.trust),
                unsupervised=options.unsupervised,
            ),
        }
    except FAULTS as error:
        sys.exit(f"table2.py: {one_line(error)}")
    write_text(options.out / "table2.json", json.dumps(figures, indent=2) + "\n")
    write_text(options.out / "results.md", f"# Table 2\n\n{markdown(figures)}")
    draw_table2(figures, options.out / "table2.png")
    print(markdown(figures))


def table2(
    checkpoints: Mapping[str, Path],
    sequences: Sequence[VideoSequence],
    out: Path,
    tracker: str = "annotation",
    follow: Follow = follow_annotation,
    *,
    load: Callable[[Path], Predictor],
    unsupervised: bool = False,
) -> dict[str, Any]:
    """Score every head on every sequence, as far as that is not done yet.

    Args:
        checkpoints: Checkpoint of each head. Heads of the paper are known by their names ``quaternion``,
            ``gram_schmidt``, ``svd`` and ``keypoint``; others have no figures of the paper beside them.
        sequences: Annotated sequences of distinct names.
        out: Folder of the results.
        tracker: What the tracker is called in the table; scores under another name are not taken for its own.
        follow: Makes the tracker of a sequence.
        load: Makes a predictor from a checkpoint.
        unsupervised: See `score_sequence`.

    Returns:
        Content of ``table2.json`` but for its origin.

    Raises:
        OSError: If a checkpoint is missing.
        ValueError: If a checkpoint, frame or mask cannot be used.
    """
    heads, tracked = {}, {}
    for name, checkpoint in checkpoints.items():
        digest, predictor = _digest(checkpoint), cache(partial(load, checkpoint))
        scored = {}
        for sequence in sequences:
            settings = json.dumps([name, digest, tracker, _description(sequence)])
            key = hashlib.sha256(settings.encode()).hexdigest()[:10]
            file = out / "tracks" / f"{name}-{sequence.name}-{key}.json"
            if not file.exists():
                logger.info("%s, %s", name, sequence.name)
                found = score_sequence(predictor(), sequence, follow=follow, unsupervised=unsupervised)
                write_text(file, json.dumps(vars(found)))
            scored[sequence.name] = json.loads(file.read_text())
        heads[name] = {
            "paper": PAPER.get(name),
            "mean": _mean([one["scores"] for one in scored.values()]),
            "frames_per_s": sum(s["frames"] for s in scored.values()) / sum(s["seconds"] for s in scored.values()),
            "sequences": {title: one["scores"] for title, one in scored.items()},
        }
        # The masks that a tracker returns are the same for all heads.
        tracked = {title: one["tracker_scores"] for title, one in scored.items() if one["tracker_scores"]}
    return {
        "tracker": tracker,
        "tracked": {"mean": _mean([*tracked.values()]), "sequences": tracked} if tracked else None,
        "data": [{"sequence": s.name, "frames": len(s), "objects": len(s.objects)} for s in sequences],
        "heads": heads,
    }


def _load(path: Path, device: str, trusted_modules: Sequence[str]) -> Predictor:
    load = Predictor.from_pretrained if path.is_dir() else Predictor.from_checkpoint
    return load(path, device=device, trusted_modules=trusted_modules)


def _digest(path: Path) -> str:
    """Digest a checkpoint: a file, or the files of a folder."""
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _description(sequence: VideoSequence) -> list[Any]:
    """List what scores of a sequence depend on; where its files lie is no part of it."""
    files = [*sequence.frames, *(path for path in sequence.annotations if path is not None)]
    return [sequence.name, list(sequence.objects.items()), [(path.name, path.stat().st_size) for path in files]]


def _mean(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average over sequences, without those that are too short for a score."""
    return {
        key: statistics.fmean(values) if values else math.nan
        for key in scores[0]
        for values in [[score[key] for score in scores if math.isfinite(score[key])]]
    }


def _checkpoints(words: Sequence[str]) -> dict[str, Path]:
    """Name the checkpoints, those of the paper's heads first."""
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if equals:
            files = {name: Path(path)}
        elif word in shipped_networks() and not Path(word).is_dir():
            files = {word: SHIPPED_WEIGHTS / word}
        else:
            files = {file.stem: file for file in sorted(Path(word).glob("*.ckpt"))}
        if not files:
            raise FileNotFoundError(
                f"--checkpoints needs NAME=PATH or a folder of checkpoints; {word} holds none. Check the path."
            )
        if repeated := found.keys() & files.keys():
            raise ValueError(f"--checkpoints needs each name once; got {', '.join(sorted(repeated))} twice.")
        found |= files
    if missing := [str(file) for file in found.values() if not file.exists()]:
        raise FileNotFoundError(f"--checkpoints needs files; there is no {missing[0]}. Check the path.")
    order = [*LABELS, *found]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def _sequences(options: argparse.Namespace) -> list[VideoSequence]:
    sequences = [] if options.davis is None else read_davis(options.davis)
    if options.youtube_vos is not None:
        sequences += read_youtube_vos(options.youtube_vos)
    known = {sequence.name: sequence for sequence in sequences}
    names = list(known) if options.sequences is None else options.sequences
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"--sequences needs some of {', '.join(known)}; got {', '.join(missing)}.")
    return [known[name] for name in names]


def _tracker(options: argparse.Namespace) -> tuple[str, Follow]:
    if options.overlap is not None:
        segmenter, name = _segmenter(options)
        if options.unsupervised:
            return f"overlap, without first masks ({name})", lambda *_: OverlapTracker(segmenter=segmenter)
        return f"overlap ({name})", lambda _, targets: OverlapTracker(targets, segmenter=segmenter)
    if options.sam2 is not None:
        load = partial(Sam2Tracker.from_pretrained, options.sam2, device=options.device)
        return f"SAM 2 ({options.sam2})", lambda _, targets: load(targets)
    if options.lwl is not None:
        return "LWL", lambda _, targets: LWLTracker(targets, parameters=options.lwl or None, device=options.device)
    return "annotation", follow_annotation


def _segmenter(options: argparse.Namespace) -> tuple[Segmenter, str]:
    """Load what finds the birds, and say what the table calls it."""
    if options.overlap:
        return TransformersSegmenter(options.overlap, label="bird", device=options.device), options.overlap
    segmenter = automatic_segmenter("bird", device=options.device)
    assert segmenter is not None
    return segmenter, "kpose's own segmenter"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="table2.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "--checkpoints", nargs="+", required=True, metavar="NAME=PATH",
        help="checkpoint of each head, or folder of Predictor.save_pretrained; a folder without a name stands for "
        "all that `kpose pipeline` or table1.py left in it, and bird for the network that comes with kpose",
    )  # fmt: skip
    add("--davis", type=Path, metavar="DIR", help="folder of DAVIS 2016 or 2017")
    add("--youtube-vos", type=Path, metavar="DIR", help="folder that holds YouTube-VOS' train")
    add("--sequences", nargs="+", metavar="NAME", help="of the sequences with birds, only these")
    add("--out", required=True, type=Path, metavar="DIR", help="folder of all results")
    add("--device", default="cpu", help="where the networks run, such as cuda (default: cpu)")
    add(
        "--trust", action="append", default=[], metavar="MODULE",
        help="a module beside kpose whose classes the checkpoints may name; may be given several times",
    )  # fmt: skip
    group = parser.add_argument_group("trackers", "The annotated masks by default.").add_mutually_exclusive_group()
    group.add_argument(
        "--overlap", nargs="?", const="", metavar="MODEL",
        help="by overlap of what is found in each frame, as `kpose video` does; MODEL: a segmentation model of "
        "transformers that finds it",
    )  # fmt: skip
    group.add_argument("--sam2", metavar="MODEL", help="by SAM 2: a folder, or a name on the Hugging Face Hub")
    group.add_argument("--lwl", nargs="?", const="", metavar="NAME", help="by LWL of an installed pytracking")
    add("--unsupervised", action="store_true", help="with --overlap: no mask is given, and birds are found")
    return parser


if __name__ == "__main__":
    main()
