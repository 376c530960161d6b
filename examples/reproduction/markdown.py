"""Figures of the tables as Markdown and CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["head_label", "markdown_table", "origin_lines", "table1_csv", "table1_markdown"]

LABELS = {"quaternion": "quaternion", "gram_schmidt": "Gram-Schmidt", "svd": "SVD", "keypoint": "keypoints"}
SCORES = {
    "angle_deg": ("mean, deg", ".1f"),
    "angle_deg_median": ("median, deg", ".1f"),
    "angle_acc30": ("within 30°", ".2f"),
    "iou": ("IoU", ".3f"),
    "iou_soft": ("soft IoU", ".3f"),
    "azimuth_ws_deg": ("azimuth WS, deg", ".1f"),
    "elevation_ws_deg": ("elevation WS, deg", ".1f"),
}
ANGLES = {
    "train_label_deg": ("to its labels", ".1f"),
    "train_angle_deg": ("to the truth", ".1f"),
    "angle_deg": ("held-out images", ".1f"),
}
OVERLAPS = {
    "iou_before_adaptation": ("shapes of stage 2", ".3f"),
    "iou": ("IoU", ".3f"),
    "iou_true_rotation": ("with true rotation", ".3f"),
    "iou_true_placement": ("with true scale and shift", ".3f"),
    "iou_true_camera": ("with true camera", ".3f"),
}
COST = {"step_ms": ("ms a step", ".0f"), "peak_mib": ("peak memory, MiB", ".0f")}
CAMERAS = {
    "searched_cameras": "searched by silhouette",
    "chosen_cameras": "chosen by appearance",
    "reranked_cameras": "agreed with heads",
    "cameras": "trained on",
}
PAPER_DATA = (
    "the paper trains on the whole of CMR's split of CUB-200-2011 (5,964 photographs, masks made by hand) and is "
    "scored on its test photographs with a learned shape"
)


def table1_markdown(figures: Mapping[str, Any]) -> str:
    """Write the figures of Table 1 as Markdown: the table, where the error comes from, the cost, the origin.

    Args:
        figures: Content of ``table1.json``.

    Returns:
        Text without a heading.
    """
    heads = figures["heads"]
    paper = any(head["paper"] for head in heads.values())
    header = ["head", *_titles(heads, SCORES), *(["paper: deg", "paper: IoU"] if paper else [])]
    rows = [
        [head_label(name), *_values(head, _present(heads, SCORES)), *(_paper(head) if paper else [])]
        for name, head in heads.items()
    ]
    parts = [markdown_table(header, rows), _reading(figures), _error_sources(figures)]
    if _present(heads, COST):
        costs = [[head_label(name), *_costs(head, heads)] for name, head in heads.items()]
        parts.append("What a step of training costs:\n\n" + markdown_table(["head", *_titles(heads, COST)], costs))
    parts.append(_origin(figures))
    return "\n".join(part for part in parts if part)


def table1_csv(figures: Mapping[str, Any]) -> str:
    """Write the figures of Table 1 as CSV, one line for each head and seed.

    Args:
        figures: Content of ``table1.json``.

    Returns:
        Text with a header line.
    """
    heads = figures["heads"]
    columns = list(dict.fromkeys(key for head in heads.values() for s in head["seeds"].values() for key in s))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["head", "seed", *columns, "paper_angle_deg", "paper_iou"], lineterminator="\n")
    writer.writeheader()
    for name, head in heads.items():
        paper = {f"paper_{key}": value for key, value in (head["paper"] or {}).items()}
        for seed, scores in head["seeds"].items():
            writer.writerow({"head": name, "seed": seed, **scores, **paper})
    return text.getvalue()


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table of which the first column is text and the others are numbers.

    Args:
        header: Titles of the columns.
        rows: Cells.

    Returns:
        Lines of Markdown.

    Example:
        >>> print(markdown_table(["head", "deg"], [["SVD", "50.8"]]), end="")
        | head | deg |
        |---|---:|
        | SVD | 50.8 |
    """
    lines = [list(header), ["---", *["---:"] * (len(header) - 1)], *rows]
    return "".join(
        f"| {' | '.join(cells)} |\n".replace("| --- ", "|---").replace(" ---: ", "---:") for cells in lines
    )


def head_label(name: str) -> str:
    """Give the name of a head as text has it.

    Args:
        name: Name in the configuration.

    Returns:
        That of the paper for the heads of the paper.

    Example:
        >>> head_label("svd"), head_label("axis_angle")
        ('SVD', 'axis angle')
    """
    return LABELS.get(name, name.replace("_", " "))


def origin_lines(origin: Mapping[str, Any], *notes: str) -> str:
    """Write what figures were computed with.

    Args:
        origin: What `origin` gives.
        notes: Further lines.

    Returns:
        The command, then a list.
    """
    commit = f"commit {origin['commit']}" if origin["commit"] else "no commit known"
    lines = [
        *notes,
        f"kpose {origin['version']}, {commit}, {origin['date']}; torch {origin['torch']}, "
        f"Python {origin['python']}.",
        f"{origin['hardware']}.",
    ]
    return f"    {origin['command']}\n\n" + "".join(f"- {line}\n" for line in lines)


def _error_sources(figures: Mapping[str, Any]) -> str:
    """Say what the training cameras had already, what heads add, and which part of a camera costs overlap."""
    heads = figures["heads"]
    text = ""
    tables = {title: figures[key] for key, title in CAMERAS.items() if figures.get(key)}
    if tables:
        header = ["cameras of the training images", "best", "best of 4", "best of all that are kept"]
        rows = [[title, *_camera_errors(errors)] for title, errors in tables.items()]
        text += "\nWhere the error comes from. Mean angle to the true rotation, which nothing learns from:\n\n"
        text += markdown_table(header, rows)
    if figures["cameras"] and "angle_deg" in _present(heads, ANGLES):
        labels = figures["cameras"]["best_deg"]
        keys = _present(heads, ANGLES)
        header = ["head", "its labels", *(title for title, _ in keys.values()), "held-out images less labels"]
        rows = [
            [head_label(name), f"{labels:.1f}", *_values(head, keys), f"{head['mean']['angle_deg'] - labels:+.1f}"]
            for name, head in heads.items()
        ]
        text += (
            "\nMean angles, in degrees: of the labels to the truth, then of the head on its training images to its "
            "labels and to the truth, then of the head on held-out images:\n\n" + markdown_table(header, rows)
        )
    if "iou_true_rotation" in _present(heads, OVERLAPS):
        rows = [[head_label(name), *_values(head, _present(heads, OVERLAPS))] for name, head in heads.items()]
        text += "\nOverlap with other shapes, and with parts of the predicted camera replaced by the true one:\n\n"
        text += markdown_table(["head", *_titles(heads, OVERLAPS)], rows)
    return text


def _reading(figures: Mapping[str, Any]) -> str:
    seeds = len(next(iter(figures["heads"].values()))["seeds"])
    data = figures["data"]
    spread = f"Mean ± standard deviation over {seeds} seeds of the heads. " if seeds > 1 else "One seed. "
    here = (
        f"here are {data['train_images']:,} training and {data['test_images']:,} held-out images of "
        f"{data['module']} (split `{data['test_split']}`"
    )
    here += f", {data['image_size']} pixels)" if data["image_size"] else ")"
    return f"\n{spread}The paper's rows are not on the same data: {PAPER_DATA}; {here}.\n"


def _origin(figures: Mapping[str, Any]) -> str:
    origin, pose, adaptation = figures["origin"], figures["settings"]["pose"], figures["settings"].get("adaptation")
    budget = (
        f"{pose['epochs']} epochs, batches of {pose['batch_size']}, AdamW {pose['learning_rate']:g}, weight decay "
        f"{pose['weight_decay']:g}, {pose['feature_dropout']:.0%} of the feature channels dropped"
    )
    views = f", {pose['cached_views']} cached views" if pose["cached_views"] else ""
    notes = [f"Each head: {budget}{views}."]
    if adaptation:
        notes.append(f"Shapes adapted to the cameras of each head: {adaptation['epochs']} epochs.")
    return f"\n{origin_lines(origin, *notes)}"


def _camera_errors(errors: Mapping[str, float]) -> list[str]:
    (kept,) = (name for name in errors if name.startswith("best_of_"))  # named by how many they are
    return [f"{errors[name]:.1f}°" for name in ("best_deg", "top4_deg", kept)]


def _present(heads: Mapping[str, Any], columns: Mapping[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return {key: column for key, column in columns.items() if any(key in head["mean"] for head in heads.values())}


def _titles(heads: Mapping[str, Any], columns: Mapping[str, tuple[str, str]]) -> list[str]:
    return [title for title, _ in _present(heads, columns).values()]


def _values(head: Mapping[str, Any], columns: Mapping[str, tuple[str, str]]) -> list[str]:
    cells = []
    for key, (_, form) in columns.items():
        cell = f"{head['mean'][key]:{form}}" if key in head["mean"] else ""
        cells.append(f"{cell} ± {head['spread'][key]:{form}}" if cell and head["spread"] else cell)
    return cells


def _costs(head: Mapping[str, Any], heads: Mapping[str, Any]) -> list[str]:
    # A run that was killed when all was learned, or was too short, has no cost.
    return [cell or "not measured" for cell in _values(head, _present(heads, COST))]


def _paper(head: Mapping[str, Any]) -> list[str]:
    return [f"{head['paper']['angle_deg']:.1f}", f"{head['paper']['iou']:.2f}"] if head["paper"] else ["", ""]
