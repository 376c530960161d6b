"""Table 1 as a plot: angular error and overlap of every head, with the paper's beside them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kpose.files import write_file
from kpose.reproduction.markdown import head_label

__all__ = ["draw_table1"]

PANELS = {"angle_deg": "mean angular error, degrees (less is better)", "iou": "IoU (more is better)"}
OURS, PAPER = "#d95f02", "#555555"


def draw_table1(figures: Mapping[str, Any], path: Path) -> None:
    """Draw the figures of Table 1 into a PNG file, a row for each head and a panel for each score.

    Bars span one standard deviation over the seeds to both sides.

    Args:
        figures: Content of ``table1.json``.
        path: The file.

    Raises:
        ImportError: If Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("draw_table1 needs Matplotlib. Install kpose[plots].") from error
    heads = figures["heads"]
    panels = {key: title for key, title in PANELS.items() if all(key in head["mean"] for head in heads.values())}
    sheet = Figure(figsize=(4.5 * len(panels), 1.2 + 0.4 * len(heads)), dpi=120, layout="constrained")
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
