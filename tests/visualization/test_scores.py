import sys

import pytest

from kpose.visualization import compare

SCORES = {"quaternion": {"angle_deg": 44.0, "iou": 0.53}, "keypoint": {"angle_deg": 24.0, "iou": 0.8, "pck": 0.5}}


def test_methods_are_bars_and_shared_metrics_are_panels() -> None:
    figure = compare(SCORES)
    assert [axis.get_xlabel() for axis in figure.axes] == ["mean angle, °", "IoU"]
    assert [[bar.get_width() for bar in axis.patches] for axis in figure.axes] == [[44.0, 24.0], [0.53, 0.8]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["quaternion", "keypoint"]
    assert figure._repr_png_().startswith(b"\x89PNG")  # what a notebook shows


def test_metrics_are_chosen_by_name_without_the_prefix_of_a_split() -> None:
    scores = {method: {f"test/{name}": value for name, value in row.items()} for method, row in SCORES.items()}
    assert [axis.get_xlabel() for axis in compare(scores, ["iou"]).axes] == ["IoU"]


@pytest.mark.parametrize(
    ("scores", "metrics", "said"),
    [(SCORES, ["pck"], "pck of quaternion"), ({}, None, "needs methods"), ({"a": {}}, None, "share scores")],
)
def test_what_cannot_be_compared_is_named(scores, metrics, said) -> None:
    with pytest.raises(ValueError, match=said):
        compare(scores, metrics)


def test_a_missing_matplotlib_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"kpose\[plots\]"):
        compare(SCORES)
