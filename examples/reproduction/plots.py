"""The tables as plots, where Matplotlib is installed (`kpose[plots]`)."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from kpose._files import write_file

from figures import head_label

PANELS = {"angle_deg": "mean angular error, degrees (less is better)", "iou": "IoU (more is better)"}
OURS, PAPER = "#d95f02", "#555555"
COLORS = ("#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#e6ab02")


def draw_table1(figures: Mapping[str, Any], path: Path) -> None:
    """Draw Table 1 into a PNG file: a row for each head, bars of one standard deviation over the seeds.

    Args:
        figures: Content of ``table1.json``.
        path: The file; nothing is written without Matplotlib.
    """
    if find_spec("matplotlib") is None:
        return
    heads = figures["heads"]
    panels = {key: title for key, title in PANELS.items() if all(key in head["mean"] for head in heads.values())}
    sheet = _figure(4.5 * len(panels), 1.2 + 0.4 * len(heads))
    axes = sheet.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    rows = list(range(len(heads)))
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        means = [head["mean"][key] for head in heads.values()]
        spreads = [head["spread"][key] if head["spread"] else 0.0 for head in heads.values()]
        axis.errorbar(means, rows, xerr=spreads, fmt="o", color=OURS, capsize=3, label="here")
        paper = [(row, head["paper"][key]) for row, head in enumerate(heads.values()) if head["paper"]]
        if paper:
            places, values = zip(*paper, strict=True)
            axis.plot(values, places, "D", color=PAPER, fillstyle="none", label="paper, other data")
        axis.set(xlabel=title, yticks=rows, yticklabels=[head_label(name) for name in heads])
        axis.locator_params(axis="x", nbins=6)
        axis.grid(axis="x", color="#dddddd")
    axes[0].invert_yaxis()
    axes[-1].legend(loc="best", fontsize="small")
    write_file(path, lambda fresh: sheet.savefig(fresh, format="png"))


def draw_table2(figures: Mapping[str, Any], path: Path) -> None:
    """Draw Table 2 into a PNG file: a bar for each head and sequence, dotted lines for means (the paper's Fig. 6).

    Args:
        figures: Content of ``table2.json``.
        path: The file; nothing is written without Matplotlib.
    """
    if find_spec("matplotlib") is None:
        return
    heads, names = figures["heads"], [entry["sequence"] for entry in figures["data"]]
    sheet = _figure(2.0 + 0.35 * (len(heads) + 1) * len(names), 3.6)
    axis = sheet.subplots()
    width = 0.8 / len(heads)
    for place, (name, head) in enumerate(heads.items()):
        color = COLORS[place % len(COLORS)]
        left = [row + (place - (len(heads) - 1) / 2) * width for row in range(len(names))]
        values = [head["sequences"][sequence]["jaccard_mean"] for sequence in names]
        axis.bar(left, values, width, label=head_label(name), color=color)
        axis.axhline(head["mean"]["jaccard_mean"], color=color, linewidth=0.8, linestyle=":")
    axis.set(ylabel="Jaccard mean", ylim=(0, 1), xticks=list(range(len(names))))
    axis.set_xticklabels(names, rotation=60 if len(names) > 4 else 0)
    sheet.legend(loc="outside upper center", ncols=min(len(heads), 4), fontsize="small", frameon=False)
    write_file(path, lambda fresh: sheet.savefig(fresh, format="png"))


def _figure(width: float, height: float) -> Any:  # noqa: ANN401 - Matplotlib is an extra
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained")
