"""What the tables share: what figures were computed with, and their Markdown.

    python examples/reproduction/figures.py docs/*.md    # rewrite the tables of these pages from their JSON files

On a page a table stands between ``<!-- figures: FILE.json ... -->`` and ``<!-- end of figures -->``; files are
found from the folder of the page.
"""

import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import torch

import kpose
from kpose._files import write_text

VARIABLES = ("KPOSE_CUB_ROOT", "KPOSE_DAVIS_ROOT", "KPOSE_BACKBONE")
LABELS = {"quaternion": "quaternion", "gram_schmidt": "Gram-Schmidt", "svd": "SVD", "keypoint": "keypoints"}
SCORES = {
    "angle_deg": ("mean angle, °", ".1f"),
    "angle_deg_median": ("median angle, °", ".1f"),
    "angle_acc30": ("share within 30°", ".2f"),
    "iou": ("IoU", ".3f"),
    "pck_transfer": ("keypoint transfer", ".3f"),
}
TABLE1_SCORES = {  # what each table of Table 1 shows, beside the first, with the paper's figures
    "Accuracy of the head on its training images, and the overlap that parts of the camera cost:": {
        "train_label_deg": ("angle to its labels, °", ".1f"),
        "train_angle_deg": ("angle to the true rotation, °", ".1f"),
        "iou_before_adaptation": ("IoU before stage 4", ".3f"),
        "iou_true_rotation": ("IoU with true rotation", ".3f"),
        "iou_true_placement": ("IoU with true scale and shift", ".3f"),
        "iou_true_camera": ("IoU with true camera", ".3f"),
    },
    "Distance between predicted and true viewpoints as a whole (Wasserstein), and the cost of a training step:": {
        "azimuth_ws_deg": ("azimuths, °", ".1f"),
        "elevation_ws_deg": ("elevations, °", ".1f"),
        "step_ms": ("ms a step", ".0f"),
        "peak_mib": ("peak memory, MiB", ".0f"),
    },
}
CAMERAS = {
    "searched_cameras": "fitted to the silhouette",
    "chosen_cameras": "chosen by appearance",
    "reranked_cameras": "re-ranked by heads",
    "cameras": "trained on",
}
DATA = {"SyntheticBirdsDataModule": "rendered birds", "CUBDataModule": "photographs"}
JACCARD = {"jaccard_mean": "Jaccard mean", "jaccard_recall": "Jaccard recall", "jaccard_decay": "Jaccard decay"}
PAPER_DIGITS = {"jaccard_mean": ".2f", "jaccard_recall": ".2f", "jaccard_decay": ".3f"}
BLOCK = re.compile(r"(<!-- figures: ([^>\n]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def origin(command: Sequence[str]) -> dict[str, Any]:
    """Report what figures are computed with: command, code and machine, without the folders of this machine.

    Args:
        command: Words of the command line.

    Returns:
        ``command``, ``version`` and git ``commit`` of kpose (None outside a clone; ends in ``-dirty`` where files
        were changed), ``date``, ``hardware``, and the versions of ``python`` and ``torch``.
    """
    answer = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude=*"],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    hardware = f"{os.cpu_count()} CPU cores ({platform.machine()}), {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        hardware += f", {torch.cuda.get_device_name()}"
    return {
        "command": " ".join(_portable(word) for word in command),
        "version": kpose.__version__,
        "commit": answer.stdout.strip() or None,
        "date": date.today().isoformat(),
        "hardware": hardware,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _portable(word: str) -> str:
    """Write a word of a command without the folders of this machine."""
    option, equals, value = word.rpartition("=")
    for name in VARIABLES:
        if value and value == os.environ.get(name):
            return f"{option}{equals}${name}"
    return f"{option}{equals}" + shlex.quote(Path(value).name if Path(value).is_absolute() else value)


def markdown(*figures: Mapping[str, Any]) -> str:
    """Write the figures of a table or of ablations as Markdown.

    Args:
        figures: Content of ``table1.json``, ``table2.json`` or ``ablations.json``; several of the last are joined
            by the names of their rows.

    Returns:
        Tables, then commit, date and machine.

    Raises:
        KeyError: If it is the content of another file.
    """
    write = {"table1": _table1, "table2": _table2, "ablations": _ablations}[figures[0]["table"]]
    return "\n".join([write(*figures), *(_origin_line(one) for one in figures)])


def head_label(name: str) -> str:
    """Return the name of a head as text has it."""
    return LABELS.get(name, name.replace("_", " "))


def refreshed_page(page: Path) -> str:
    """Return the text of a page with its tables written from their JSON files again; the file is left alone."""

    def block(match: re.Match[str]) -> str:
        figures = [json.loads((page.parent / name).read_text(encoding="utf-8")) for name in match[2].split()]
        return f"{match[1]}\n{markdown(*figures)}\n{match[3]}"

    return BLOCK.sub(block, page.read_text(encoding="utf-8"))


def _table1(figures: Mapping[str, Any]) -> str:
    heads, data = figures["heads"], figures["data"]
    paper = any(head["paper"] for head in heads.values())
    columns = _present(SCORES, heads.values())
    rows = [
        [head_label(name), *_cells(head["seeds"], columns), *(_paper(head) if paper else ())]
        for name, head in heads.items()
    ]
    header = [
        "head",
        *(SCORES[key][0] for key in columns),
        *(("paper: mean angle, °", "paper: IoU") if paper else ()),
    ]
    seeds = len(next(iter(heads.values()))["seeds"])
    parts = [
        _table(header, rows),
        f"{seeds} seed{'s: mean ± standard deviation' if seeds > 1 else ''}; {data['train_images']:,} training and "
        f"{data['test_images']:,} held-out images of {data['module']} (split `{data['test_split']}`).\n",
    ]
    cameras = {title: figures[key] for key, title in CAMERAS.items() if figures.get(key)}
    if cameras:
        header = ["cameras of the training images", "best camera", "best of 4", "best of all kept"]
        parts += ["Mean angle to the true rotation, which is not used in training:\n"]
        parts += [_table(header, [[title, *_camera_errors(errors)] for title, errors in cameras.items()])]
    for title, scores in TABLE1_SCORES.items():
        if columns := _present(scores, heads.values()):
            rows = [[head_label(name), *_cells(head["seeds"], columns, scores)] for name, head in heads.items()]
            parts += [f"{title}\n", _table(["head", *(scores[key][0] for key in columns)], rows)]
    return "\n".join(parts)


def _table2(figures: Mapping[str, Any]) -> str:
    heads, tracked = figures["heads"], figures["tracked"]
    header = ["head", *JACCARD.values(), "paper: mean", "paper: recall", "paper: decay", "frames a second"]
    rows = []
    for name, head in heads.items():
        ours = [f"{head['mean'][key]:.3f}" for key in JACCARD]
        paper = [f"{head['paper'][key]:{form}}" if head["paper"] else "" for key, form in PAPER_DIGITS.items()]
        rows.append([head_label(name), *ours, *paper, f"{head['frames_per_s']:.1f}"])
    if tracked:
        rows.append(["the tracker's masks", *(f"{tracked['mean'][key]:.3f}" for key in JACCARD), *[""] * 4])
    names = [entry["sequence"] for entry in figures["data"]]
    means = [
        [head_label(name), *(f"{head['sequences'][title]['jaccard_mean']:.3f}" for title in names)]
        for name, head in heads.items()
    ]
    frames = sum(entry["frames"] for entry in figures["data"])
    text = f"{len(names)} sequences, {frames} frames; a lower decay is better. Boxes from: {figures['tracker']}.\n"
    return "\n".join(
        [_table(header, rows), text, _table(["Jaccard mean", *(f"`{name}`" for name in names)], means)]
    )


def _ablations(*several: Mapping[str, Any]) -> str:
    """Join ablations by the names of their rows."""
    found = []
    for figures in several:
        rows = {}
        for title, group in figures["groups"].items():
            prefix = "" if title == "trained" else "camera: "
            rows |= {f"{prefix}{name}": seeds for name, seeds in group.items()}
        found.append(rows)
    modules = [figures["notes"][0].partition(",")[0] for figures in several]
    titles = [f"{DATA.get(module, module)}: " if len(several) > 1 else "" for module in modules]
    header = ["varied", *(f"{title}{name}" for title in titles for name in ("mean angle, °", "IoU")), "seeds"]
    lines = []
    for name in dict.fromkeys(name for rows in found for name in rows):
        cells, counts = [], set()
        for rows in found:
            cells += _cells(rows[name], ("angle_deg", "iou")) if name in rows else ["", ""]
            counts |= {len(rows[name])} if name in rows else set()
        lines.append([name, *cells, " and ".join(str(count) for count in sorted(counts))])
    return _table(header, lines)


def _origin_line(figures: Mapping[str, Any]) -> str:
    made = figures["origin"]
    return "".join(f"{note} " for note in figures.get("notes", ())) + (
        f"Computed on {made['date']} with kpose {made['version']} (commit {made['commit'] or 'unknown'}), torch "
        f"{made['torch']}, {made['hardware']}.\n"
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table of which the first column is text and the others are numbers."""
    lines = [f"| {' | '.join(cells)} |\n" for cells in (header, *rows)]
    return "".join([lines[0], f"|---|{'---:|' * (len(header) - 1)}\n", *lines[1:]])


def _present(scores: Mapping[str, Any], heads: Any) -> list[str]:  # noqa: ANN401 - heads, each with its seeds
    return [key for key in scores if all(key in one for head in heads for one in head["seeds"].values())]


def _cells(
    seeds: Mapping[str, Mapping[str, float]], columns: Sequence[str], scores: Mapping[str, tuple[str, str]] = SCORES
) -> list[str]:
    cells = []
    for key in columns:
        values, form = [one[key] for one in seeds.values()], scores[key][1]
        spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
        cells.append(f"{statistics.fmean(values):{form}}{spread}")
    return cells


def _paper(head: Mapping[str, Any]) -> list[str]:
    return [f"{head['paper']['angle_deg']:.1f}", f"{head['paper']['iou']:.2f}"] if head["paper"] else ["", ""]


def _camera_errors(errors: Mapping[str, float]) -> list[str]:
    (kept,) = (name for name in errors if name.startswith("best_of_"))  # named by how many they are
    return [f"{errors[name]:.1f}°" for name in ("best_deg", "top4_deg", kept)]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        write_text(name, refreshed_page(Path(name)))
