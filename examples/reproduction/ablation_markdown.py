"""Figures of ablations as Markdown."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from markdown import markdown_table, origin_lines

__all__ = ["ablations_markdown"]

SCORES = {
    "angle_deg": ("mean, deg", ".1f"),
    "angle_deg_median": ("median, deg", ".1f"),
    "angle_acc30": ("within 30°", ".2f"),
    "iou": ("IoU", ".3f"),
    "cpu_minutes": ("CPU minutes", ".1f"),
}


def ablations_markdown(figures: Mapping[str, Any]) -> str:
    """Write the figures of ablations as Markdown: a table for each group of rows, then their origin.

    Args:
        figures: Content of ``ablations.json``: ``groups`` has a table by its title, which has scores by row and
            seed.

    Returns:
        Text without a heading.

    Example:
        >>> groups = {"trained": {"default": {"0": {"angle_deg": 20.0}, "1": {"angle_deg": 22.0}}}}
        >>> print(ablations_markdown({"groups": groups}))
        | trained | seeds | mean, deg |
        |---|---:|---:|
        | default | 2 | 21.0 ± 1.4 |
        <BLANKLINE>
    """
    parts = []
    for title, rows in figures["groups"].items():
        columns = [
            key for key in SCORES if all(key in scores for seeds in rows.values() for scores in seeds.values())
        ]
        header = [title, "seeds", *(SCORES[key][0] for key in columns)]
        lines = [[name, str(len(seeds)), *_cells(list(seeds.values()), columns)] for name, seeds in rows.items()]
        parts.append(markdown_table(header, lines))
    if "origin" in figures:
        parts.append(origin_lines(figures["origin"], *figures.get("notes", ())))
    return "\n".join(parts)


def _cells(scores: Sequence[Mapping[str, float]], columns: Sequence[str]) -> list[str]:
    cells = []
    for key in columns:
        values, form = [one[key] for one in scores], SCORES[key][1]
        spread = f" ± {statistics.stdev(values):{form}}" if len(values) > 1 else ""
        cells.append(f"{statistics.mean(values):{form}}{spread}")
    return cells
