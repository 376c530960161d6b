"""The tables as plots: scores of every head, and of every head on every video."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kpose.files import write_file

from markdown import head_label

__all__ = ["draw_table1", "draw_table2"]

PANELS = {"angle_deg": "mean angular error, degrees (less is better)", "iou": "IoU (more is better)"}
OURS, PAPER = "#d95f02", "#555555"
COLORS = ("#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#e6ab02")


def draw_table1(figures: Mapping[str, Any], path: Path) -> None:
    """Draw the figures of Table 1 into a PNG file, a row for each head and a panel for each score.

    Bars span one standard deviation over the seeds to both sides.

    Args:
        figures: Content of ``table1.json``.
        path: The file.

    Raises:
        ImportError: If Matplotlib is not installed.
    """
    heads = figures["heads"]
    panels = {key: title for key, title in PANELS.items() if all(key in head["mean"] for head in heads.values())}
    sheet = _figure(4.5 * len(panels), 1.2 + 0.4 * len(heads))
    axes = sheet.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    rows = range(len(heads))
    for place, (axis, (key, title)) in enumerate(zip(axes, panels.items(), strict=True)):
        means = [head["mean"][key] for head in heads.values()]
        spreads = [head["spread"][key] if head["spread"] else 0.0 for head in heads.values()]
        axis.errorbar(means, rows, xerr=spreads, fmt="o", color=OURS, capsize=3, label="here")
        paper = [(head["paper"][key], row) for row, head in enumerate(heads.values()) if head["paper"]]
        if paper:
            values, places = zip(*paper, strict=True)
            axis.plot(
                values, places, "D", color=PAPER, fillstyle="none", linestyle="none", label="paper, other data"
            )
        axis.set(xlabel=title, yticks=list(rows), yticklabels=[head_label(name) for name in heads])
        axis.grid(axis="x", color="#dddddd")
        axis.spines[["top", "right"]].set_visible(False)
        if place == 0:
            axis.invert_yaxis()
    axes[-1].legend(loc="best", fontsize="small")
    write_file(path, lambda fresh: sheet.savefig(fresh, format="png"))


def draw_table2(figures: Mapping[str, Any], path: Path) -> None:
    """Draw the Jaccard mean of every head on every sequence into a PNG file, as in the paper's Fig. 6.

    Args:
        figures: Content of ``table2.json``.
        path: The file.

    Raises:
        ImportError: If Matplotlib is not installed.
    """
    heads, names = figures["heads"], [entry["sequence"] for entry in figures["data"]]
    sheet = _figure(2.0 + 0.35 * (len(heads) + 1) * len(names), 3.6)
    axis = sheet.subplots()
    width = 0.8 / len(heads)
    for place, (name, head) in enumerate(heads.items()):
        values = [head["sequences"][sequence]["jaccard_mean"] for sequence in names]
        left = [row + (place - (len(heads) - 1) / 2) * width for row in range(len(names))]
        axis.bar(left, values, width, label=head_label(name), color=COLORS[place % len(COLORS)])
        mean = head["mean"]["jaccard_mean"]
        axis.axhline(mean, color=COLORS[place % len(COLORS)], linewidth=0.8, linestyle=":")
    axis.set(ylabel="Jaccard mean", ylim=(0, 1), xticks=list(range(len(names))), xticklabels=names)
    if len(names) > 4:
        axis.tick_params(axis="x", rotation=60)
    axis.grid(axis="y", color="#dddddd")
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)
    sheet.legend(loc="outside upper center", ncols=min(len(heads), 4), fontsize="small", frameon=False)
    write_file(path, lambda fresh: sheet.savefig(fresh, format="png"))


def _figure(width: float, height: float) -> Any:  # noqa: ANN401 - Matplotlib is imported when a plot is drawn
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Plots need Matplotlib; it is not installed. Install kpose[plots].") from error
    return Figure(figsize=(width, height), dpi=120, layout="constrained")
