"""Figures of Table 2 as Markdown and CSV."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from markdown import head_label, markdown_table, origin_lines

__all__ = ["table2_csv", "table2_markdown"]

SCORES = {
    "jaccard_mean": ("Jaccard mean", ".3f"),
    "jaccard_recall": ("recall", ".3f"),
    "jaccard_decay": ("decay", ".3f"),
}
PAPER_DATA = "22 bird sequences of YouTube-VOS and DAVIS, with the boxes of LWL's masks"
TRACKERS = {
    "annotation": "the boxes of the annotated masks, so that nothing but the reconstruction is scored",
    "association": "the boxes of `AssociationTracker`, which knows the mask of the first frame alone",
}


def table2_markdown(figures: Mapping[str, Any]) -> str:
    """Write the figures of Table 2 as Markdown: the table, every sequence, the origin.

    Args:
        figures: Content of ``table2.json``.

    Returns:
        Text without a heading.
    """
    heads, tracked = figures["heads"], figures["tracked"]
    header = ["head", *(title for title, _ in SCORES.values()), "paper: mean", "paper: recall", "paper: decay"]
    rows = [
        [
            head_label(name),
            *_cells(head["mean"]),
            *(_cells(head["paper"], short=True) if head["paper"] else [""] * 3),
        ]
        for name, head in heads.items()
    ]
    if tracked:
        rows.append(["the tracker's masks", *_cells(tracked["mean"]), *[""] * 3])
    parts = [markdown_table(header, rows), _reading(figures)]
    header = ["Jaccard mean", "frames", *(head_label(name) for name in heads)]
    rows = [
        [
            f"`{entry['sequence']}`",
            str(entry["frames"]),
            *(f"{head['sequences'][entry['sequence']]['jaccard_mean']:.3f}" for head in heads.values()),
        ]
        for entry in figures["data"]
    ]
    rows.append(["frames a second", "", *(f"{head['frames_per_s']:.1f}" for head in heads.values())])
    parts += [markdown_table(header, rows), origin_lines(figures["origin"])]
    return "\n".join(parts)


def table2_csv(figures: Mapping[str, Any]) -> str:
    """Write the figures of Table 2 as CSV, one line for each head and sequence.

    Args:
        figures: Content of ``table2.json``.

    Returns:
        Text with a header line.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, ["head", "sequence", "frames", *SCORES], lineterminator="\n")
    writer.writeheader()
    frames = {entry["sequence"]: entry["frames"] for entry in figures["data"]}
    for name, head in figures["heads"].items():
        for sequence, scores in head["sequences"].items():
            writer.writerow({"head": name, "sequence": sequence, "frames": frames[sequence], **scores})
    return text.getvalue()


def _cells(scores: Mapping[str, float], *, short: bool = False) -> list[str]:
    """Write scores with three digits, or those of the paper with as many as it gives."""
    forms = {key: ".2f" if short and key != "jaccard_decay" else form for key, (_, form) in SCORES.items()}
    return [f"{scores[key]:{form}}" for key, form in forms.items()]


def _reading(figures: Mapping[str, Any]) -> str:
    count = len(figures["data"])
    frames = sum(entry["frames"] for entry in figures["data"])
    crops = TRACKERS.get(figures["tracker"], f"the boxes of {figures['tracker']}")
    return (
        f"Mean over {count} sequence{'s' if count > 1 else ''} of {frames} frames, first and last left out; less "
        f"decay is better. Crops come from {crops}. The paper's rows are on other data: {PAPER_DATA}.\n"
    )
