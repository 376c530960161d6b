"""Scores of several methods side by side."""

from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["compare"]

_LABELS = {"angle_deg": "mean angle, °", "angle_deg_median": "median angle, °", "iou": "IoU"}


def compare(scores: Mapping[str, Mapping[str, float]], metrics: Sequence[str] | None = None) -> "Figure":
    """Plot the scores of several methods as bars, a panel for each metric; needs ``kpose[plots]``.

    Args:
        scores: For each method, its scores by name, as `kpose.pipeline.Pipeline.run` returns them under ``heads``
            or a trainer's ``test`` as the items of its list; a prefix of Lightning's (``test/``) is left out.
        metrics: Names of the scores to plot, in order; those that all methods have when None.

    Returns:
        Figure, which a notebook shows and ``savefig`` writes.

    Raises:
        ModuleNotFoundError: If Matplotlib is not installed.
        ValueError: If there is nothing to plot, or a method lacks a score; one line says which.

    Example:
        >>> figure = compare({"mine": {"iou": 0.7}, "quaternion": {"iou": 0.6}})
        >>> figure.axes[0].get_xlabel()
        'IoU'
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("compare needs Matplotlib. Run `pip install 'kpose[plots]'`.") from error
    plain = {
        method: {name.rpartition("/")[2]: value for name, value in row.items()} for method, row in scores.items()
    }
    if metrics is None:
        first = next(iter(plain.values()), {})
        metrics = [name for name in first if all(name in row for row in plain.values())]
    missing = [f"{name} of {method}" for method, row in plain.items() for name in metrics if name not in row]
    if not plain or not metrics or missing:
        raise ValueError(
            f"compare needs methods that share scores; got {missing or list(plain)}. Name shared ones."
        )

    class NotebookFigure(Figure):
        def _repr_png_(self) -> bytes:
            file = BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    figure = NotebookFigure(figsize=(3.6 * len(metrics) + 1.2, 0.36 * len(plain) + 1), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0], metrics, strict=True):
        bars = axis.barh(list(plain), [row[name] for row in plain.values()], color="#3a7ca5")
        axis.bar_label(bars, fmt="%.3g", padding=3)
        axis.margins(x=0.15)
        axis.set_xlabel(_LABELS.get(name, name))
        axis.spines[["top", "right"]].set_visible(False)
    figure.axes[0].invert_yaxis()  # the first method on top
    return figure
