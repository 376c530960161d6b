import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kpose.metrics import VideoJaccard
from kpose.metrics.video_jaccard import _jaccard_statistics

OFFICIAL = {"osvos": (0.943020, 1.0, 0.001408), "rvos": (0.921626, 1.0, 0.018105)}


def independent(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, recall and decay in numpy, from the paper's definitions: quarters that share their rounded ends."""
    count = len(values)
    ends = [int(np.floor(1 + (count - 1) * k / 4 + 0.5)) for k in range(5)]
    first, last = values[ends[0] - 1 : ends[1]], values[ends[3] - 1 : ends[4]]
    return values.mean(), np.mean(values > 0.5), first.mean() - last.mean()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 48, 68, 255, 256, 300, 1000, 1025])
def test_statistics_are_those_of_numpy(count: int) -> None:
    values = np.random.default_rng(count).random(count)
    found = _jaccard_statistics(torch.from_numpy(values))
    np.testing.assert_allclose(found.numpy(), independent(values), atol=1e-12)


def test_the_threshold_itself_is_no_hit() -> None:
    assert _jaccard_statistics(torch.tensor([0.5, 0.5001]))[1] == 0.5
    assert _jaccard_statistics(torch.tensor([0.5, 0.7, 0.8]), threshold=0.75)[1] == pytest.approx(1 / 3)


def test_no_frames_give_nan() -> None:
    assert _jaccard_statistics(torch.zeros(0)).isnan().all()


def test_decay_is_positive_for_a_track_that_gets_worse() -> None:
    assert _jaccard_statistics(torch.linspace(1, 0, 20))[2] > 0.5
    assert _jaccard_statistics(torch.linspace(0, 1, 20))[2] < -0.5


def boxes(count: int, seed: int) -> torch.Tensor:
    """Make masks of boxes that wander."""
    random = np.random.default_rng(seed)
    masks = torch.zeros(count, 24, 32, dtype=torch.bool)
    corners = 2 + random.integers(0, 8, (count, 2))
    for mask, (top, left) in zip(masks, corners, strict=True):
        mask[top : top + 9, left : left + 12] = True
    return masks


def iou(first: torch.Tensor, second: torch.Tensor) -> np.ndarray:
    a, b = first.numpy(), second.numpy()
    return (a & b).sum((1, 2)) / (a | b).sum((1, 2))


def test_objects_are_averaged_before_sequences() -> None:
    tracks = {("a", 1): 12, ("a", 2): 12, ("a", 7): 12, ("b", 1): 30}
    metric = VideoJaccard(["b", "a", "unseen"])
    expected: dict[str, list[tuple[float, float, float]]] = {"a": [], "b": []}
    for (name, thing), count in tracks.items():
        masks, truth = boxes(count, seed=thing), boxes(count, seed=thing + 10)
        expected[name].append(independent(iou(masks, truth)[1:-1]))
        for frame in torch.randperm(count).tolist():
            metric.update(masks[frame], truth[frame], sequence=name, object_id=thing, frame=frame)
    means = {name: np.mean(rows, 0) for name, rows in expected.items()}
    found = metric.per_sequence()
    assert found.keys() == means.keys()
    for name, row in means.items():
        assert [value.item() for value in found[name].values()] == pytest.approx(row, abs=1e-6)
    total = [value.item() for value in metric.compute().values()]
    assert total == pytest.approx(np.mean([*means.values()], 0), abs=1e-6)


def test_an_object_that_appears_later_keeps_its_first_frame() -> None:
    """The frames left out are those of the sequence, as in the toolkit."""
    metric = VideoJaccard(["a"])
    full, empty = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)
    for frame in range(10):
        metric.update(full, full, sequence="a", object_id=1, frame=frame)
    for frame in range(7, 10):
        metric.update(empty if frame == 7 else full, full, sequence="a", object_id=2, frame=frame)
    assert metric.compute()["jaccard_mean"].item() == pytest.approx((1 + 0.5) / 2)


def test_a_frame_that_comes_twice_counts_once() -> None:
    masks, truth = boxes(9, seed=0), boxes(9, seed=1)
    once, twice = VideoJaccard(["a"]), VideoJaccard(["a"])
    for frame in range(9):
        for metric in (once, twice, twice):
            metric.update(masks[frame], truth[frame], sequence="a", object_id=1, frame=frame)
    assert once.compute() == twice.compute()


def test_two_frames_are_too_few() -> None:
    metric = VideoJaccard(["a"])
    mask = torch.ones(2, 2, dtype=torch.bool)
    for frame in range(2):
        metric.update(mask, mask, sequence="a", object_id=1, frame=frame)
    assert all(value.isnan() for value in metric.compute().values())


def test_without_frames_warns_and_gives_nan() -> None:
    metric = VideoJaccard(["a"])
    assert metric.per_sequence() == {}
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert metric.compute()["jaccard_mean"].isnan()


@pytest.mark.parametrize("names", [[], ["a", "a"]])
def test_names_are_checked(names: list[str]) -> None:
    with pytest.raises(ValueError, match="each once"):
        VideoJaccard(names)


def test_unknown_sequences_are_refused() -> None:
    mask = torch.ones(2, 2)
    update = inspect.unwrap(VideoJaccard.update)
    with pytest.raises(ValueError, match="got 'b'"):
        update(VideoJaccard(["a"]), mask, mask, sequence="b", object_id=1, frame=0)


@pytest.mark.parametrize("track", OFFICIAL)
def test_figures_of_the_official_toolkit(track: str, davis_root: Path) -> None:
    results, name = davis_root / "Results", "blackswan"
    if not (results / name / track).is_dir():
        pytest.skip(f"{results} does not hold the track {track} of {name}")
    metric = VideoJaccard([name])
    for frame, path in enumerate(sorted((results / name / track).glob("*.png"))):
        truth = np.asarray(Image.open(davis_root / "Annotations" / "480p" / name / path.name)) > 0
        mask = np.asarray(Image.open(path)) == 1  # of its palette; what else it found is no swan
        metric.update(torch.from_numpy(mask), torch.from_numpy(truth), sequence=name, object_id=1, frame=frame)
    assert [value.item() for value in metric.compute().values()] == pytest.approx(OFFICIAL[track], abs=5e-7)
