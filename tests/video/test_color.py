import pytest
import torch

from kpose.video.color import color_histogram, color_share, color_similarity, find_shift


def noise(*size: int) -> torch.Tensor:
    return torch.rand(3, *size, generator=torch.Generator().manual_seed(0))


def test_histograms_tell_colors_apart() -> None:
    red, blue = torch.zeros(3, 8, 8), torch.zeros(3, 8, 8)
    red[0], blue[2] = 1, 1
    everywhere = torch.ones(8, 8, dtype=torch.bool)
    first, second = color_histogram(red, everywhere), color_histogram(blue, everywhere)
    assert first.sum() == pytest.approx(1)
    assert color_similarity(first, first) == pytest.approx(1)
    assert color_similarity(first, second) == 0
    assert color_share(red, first, second).min() > 0.9
    assert color_share(blue, first, second).max() < 0.1
    assert color_histogram(red, ~everywhere).sum() == 0


@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-4, 2)])
def test_the_shift_of_an_object_is_found(shift: tuple[int, int]) -> None:
    picture = noise(40, 60)
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[12:22, 20:40] = True
    assert find_shift(picture, picture.roll((shift[1], shift[0]), (1, 2)), mask, reach=6) == shift


def test_large_objects_are_searched_for_in_larger_steps() -> None:
    picture = torch.nn.functional.interpolate(noise(24, 32)[None], scale_factor=8, mode="bilinear")[0]
    mask = torch.zeros(192, 256, dtype=torch.bool)
    mask[40:150, 50:200] = True
    right, down = find_shift(picture, picture.roll((-16, 16), (1, 2)), mask, reach=30)
    assert right == pytest.approx(16, abs=4)
    assert down == pytest.approx(-16, abs=4)
