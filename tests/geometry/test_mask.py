import inspect

import pytest
import torch

from kpose.geometry import mask_iou, mask_to_box
from kpose.geometry._mask import connected_regions


def test_regions_that_touch_are_one_however_they_wind() -> None:
    picture = """
        ##########.#
        .........#.#
        ########.#.#
        #......#.#..
        #.####.#.#.#
        #.#....#.#..
        #.######.#.#
        #........#..
        ##########.#
    """
    mask = torch.tensor([[cell == "#" for cell in row] for row in picture.split()])
    labels = connected_regions(mask)
    assert ((labels > 0) == mask).all()
    spiral = labels[0, 0]
    assert (labels[:, :10][mask[:, :10]] == spiral).all()
    assert labels.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert labels[0, 11] == labels[2, 11] != labels[4, 11]


def test_a_region_of_every_shape_is_found_as_by_filling() -> None:
    mask = torch.rand(30, 41, generator=torch.Generator().manual_seed(2)) > 0.6
    labels, seen = connected_regions(mask), torch.zeros_like(mask)
    for number in range(1, int(labels.max()) + 1):
        filled = torch.zeros_like(mask)
        start = (labels == number).nonzero()[0]
        filled[start[0], start[1]] = True
        for _ in range(mask.numel()):
            filled = (torch.nn.functional.max_pool2d(filled.float()[None], 3, 1, 1)[0] > 0) & mask
        assert torch.equal(filled, labels == number)
        seen |= filled
    assert torch.equal(seen, mask)


def test_nothing_has_no_region() -> None:
    assert not connected_regions(torch.zeros(3, 4, dtype=torch.bool)).any()
    assert connected_regions(torch.ones(3, 4, dtype=torch.bool)).eq(1).all()


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
