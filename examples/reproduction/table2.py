"""Reconstruct birds of annotated videos online with each head; write Table 2 with the paper's rows beside ours."""

import argparse
import logging
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kpose.data import VideoSequence, read_davis, read_youtube_vos
from kpose.messages import one_line
from kpose.video import AssociationTracker, LWLTracker, Sam2Tracker

from markdown import LABELS
from table2_run import Table2
from tracks import Follow, follow_annotation

__all__ = ["main"]

PROG = "table2.py"
FAULTS = (OSError, ValueError, RuntimeError, MemoryError, ImportError, AssertionError)  # the last: no CUDA


def main(args: Sequence[str] | None = None) -> int:
    """Reproduce Table 2.

    Args:
        args: Arguments after the name of the script; those of the process when None.

    Returns:
        0; 2 if the arguments are wrong and 1 if the table cannot be made; one line says why.

    Raises:
        SystemExit: If the arguments are wrong (code 2), or ask for help.
    """
    given = list(sys.argv[1:] if args is None else args)
    parser = _parser()
    options = parser.parse_args(given)
    if options.davis is None and options.youtube_vos is None:
        parser.error("give the folder of --davis, of --youtube-vos, or both")
    try:
        checkpoints = _checkpoints(options.checkpoints)
    except (FileNotFoundError, ValueError) as error:
        return _complain(error, 2)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("reproduction").setLevel(logging.INFO)
    try:
        tracker, follow = _tracker(options)
        table = Table2(
            checkpoints,
            _sequences(options),
            options.out,
            follow=follow,
            tracker=tracker,
            device=options.device,
            trusted_modules=options.trust,
            command=("python", "examples/reproduction/table2.py", *given),
        )
        table.run()
    except FAULTS as error:
        return _complain(error, 1)
    sys.stdout.write((options.out / "results.md").read_text(encoding="utf-8"))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=PROG, description=f"{__doc__} Run the same command again to go on after a kill.", allow_abbrev=False
    )
    parser.add_argument(
        "--checkpoints", nargs="+", required=True, metavar="NAME=FILE",
        help="checkpoint of each head; a folder stands for all that `kpose pipeline` or table1 has left in it",
    )  # fmt: skip
    parser.add_argument("--davis", type=Path, metavar="DIR", help="folder of DAVIS 2016 or 2017")
    parser.add_argument("--youtube-vos", type=Path, metavar="DIR", help="folder that holds YouTube-VOS' train")
    parser.add_argument("--sequences", nargs="+", metavar="NAME", help="of the sequences with birds, only these")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of all results")
    trackers = parser.add_argument_group(
        "trackers", "The annotated masks, if not said."
    ).add_mutually_exclusive_group()
    trackers.add_argument(
        "--association", action="store_true", help="follow by colours and motion from the first frame's mask"
    )
    trackers.add_argument("--sam2", metavar="MODEL", help="by SAM 2: a folder, or a name on the Hugging Face Hub")
    trackers.add_argument("--lwl", nargs="?", const="", metavar="NAME", help="by LWL of an installed pytracking")
    parser.add_argument("--device", default="cpu", help="where the networks run, such as cuda (default: cpu)")
    parser.add_argument(
        "--trust", action="append", default=[], metavar="MODULE",
        help="a module beside kpose whose classes the checkpoints may name; may be given several times",
    )  # fmt: skip
    return parser


def _checkpoints(words: Sequence[str]) -> dict[str, Path]:
    """Name the checkpoints, those of the paper's heads first."""
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        files = {name: Path(path)} if equals else {file.stem: file for file in sorted(Path(word).glob("*.ckpt"))}
        if not files:
            raise FileNotFoundError(
                f"--checkpoints needs NAME=FILE or a folder of checkpoints; {word} holds none. Check the path."
            )
        if repeated := found.keys() & files.keys():
            raise ValueError(f"--checkpoints needs each name once; got {', '.join(sorted(repeated))} twice.")
        found |= files
    if missing := [str(file) for file in found.values() if not file.is_file()]:
        raise FileNotFoundError(f"--checkpoints needs files; there is no {missing[0]}. Check the path.")
    order = [*LABELS, *found]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def _sequences(options: argparse.Namespace) -> list[VideoSequence]:
    sequences = [] if options.davis is None else read_davis(options.davis)
    if options.youtube_vos is not None:
        sequences += read_youtube_vos(options.youtube_vos)
    if options.sequences is None:
        return sequences
    known = {sequence.name: sequence for sequence in sequences}
    if missing := [name for name in options.sequences if name not in known]:
        raise ValueError(f"--sequences needs some of {', '.join(known)}; got {', '.join(missing)}.")
    return [known[name] for name in options.sequences]


def _tracker(options: argparse.Namespace) -> tuple[str, Follow]:
    if options.association:
        return "association", lambda _, targets: AssociationTracker(targets)
    if options.sam2 is not None:
        load = partial(Sam2Tracker.from_pretrained, options.sam2, device=options.device)
        return f"SAM 2 ({options.sam2})", lambda _, targets: load(targets)
    if options.lwl is not None:
        return "LWL", lambda _, targets: LWLTracker(targets, parameters=options.lwl or None)
    return "annotation", follow_annotation


def _complain(error: Exception, code: int) -> int:
    sys.stderr.write(f"{PROG}: {one_line(error)}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
