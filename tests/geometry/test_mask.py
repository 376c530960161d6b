import inspect

import pytest
import torch

from kpose.geometry import mask_iou, mask_to_box


def test_soft_is_the_published_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    g, m = torch.rand(2, 5, 8, 9, generator=generator)
    expected = torch.stack([(a * b).sum() / (a + b - a * b).sum() for a, b in zip(g, m, strict=True)])
    torch.testing.assert_close(mask_iou(m, g), expected)
    torch.testing.assert_close(mask_iou(g, m), expected)


def test_crisp_masks_give_the_same_soft_and_hard() -> None:
    mask = torch.zeros(4, 6, dtype=torch.bool)
    target = torch.zeros(4, 6, dtype=torch.bool)
    mask[:2, :3] = True  # 6 pixels
    target[1:3, 1:4] = True  # 6 pixels, 2 of them shared
    assert mask_iou(mask, target).item() == pytest.approx(0.2)
    assert mask_iou(mask.float(), target, soft=False).item() == pytest.approx(0.2)


def test_half_a_pixel_is_background_when_hard() -> None:
    assert mask_iou(torch.tensor([[0.5, 1.0]]), torch.tensor([[1.0, 1.0]]), soft=False).item() == 0.5


@pytest.mark.parametrize("soft", [True, False])
def test_empty_masks(soft: bool) -> None:
    empty, full = torch.zeros(3, 3), torch.ones(3, 3)
    assert mask_iou(empty, empty, soft=soft).item() == 1
    assert mask_iou(empty, full, soft=soft).item() == 0
    assert mask_iou(full, empty, soft=soft).item() == 0


def test_gradient_is_finite_on_empty_masks() -> None:
    mask = torch.zeros(1, 3, 3, requires_grad=True)
    mask_iou(mask, torch.zeros(1, 3, 3)).sum().backward()
    assert mask.grad is not None
    assert mask.grad.isfinite().all()


def test_gradcheck() -> None:
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(2, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 4, 4, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda m: mask_iou(m, target), mask)


def test_half_precision_counts_in_float32() -> None:
    mask = torch.ones(256, 256, dtype=torch.float16)
    assert mask_iou(mask, mask).item() == 1


def test_differing_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 4, 4\) and \(3, 4, 4\)"):
        inspect.unwrap(mask_iou)(torch.zeros(1, 4, 4), torch.zeros(3, 4, 4))  # what users see: no type hook


def test_box_reaches_around_the_outermost_pixels() -> None:
    mask = torch.zeros(5, 7, dtype=torch.bool)
    assert mask_to_box(mask) is None
    mask[1, 2] = mask[3, 6] = True
    assert mask_to_box(mask) == (2, 1, 7, 4)
    assert mask_to_box(torch.ones(5, 7, dtype=torch.bool)) == (0, 0, 7, 5)
