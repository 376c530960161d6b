import pytest
import torch
from torchmetrics import MetricCollection

from kpose.geometry import mask_iou
from kpose.metrics import MaskIoU


@pytest.mark.parametrize("soft", [True, False])
def test_uneven_batches_give_the_mean_over_images(soft: bool) -> None:
    generator = torch.Generator().manual_seed(2)
    mask, target = torch.rand(2, 7, 5, 5, generator=generator)
    metric = MaskIoU(soft=soft)
    for rows in (slice(0, 3), slice(3, 6), slice(6, 7)):
        metric.update(mask[rows], target[rows])
    torch.testing.assert_close(metric.compute(), mask_iou(mask, target, soft=soft).mean())


def test_soft_and_hard_stay_apart_in_a_collection() -> None:
    metrics = MetricCollection({"soft": MaskIoU(), "hard": MaskIoU(soft=False)})
    ones = torch.ones(1, 2, 2)
    metrics.update(ones, ones)  # equal values in both: the moment at which a collection merges twins
    metrics.update(torch.full((1, 2, 2), 0.6), ones)
    scores = metrics.compute()
    assert scores["soft"].item() == pytest.approx(0.8)
    assert scores["hard"].item() == pytest.approx(1.0)


def test_without_images_warns_and_gives_nan() -> None:
    with pytest.warns(UserWarning, match="before the ``update`` method"):
        assert MaskIoU().compute().isnan()


def test_reset_forgets() -> None:
    metric = MaskIoU()
    metric.update(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))
    metric.reset()
    metric.update(torch.ones(1, 2, 2), torch.ones(1, 2, 2))
    assert metric.compute().item() == 1
