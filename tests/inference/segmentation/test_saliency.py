import pytest
import torch
from inference.segmentation.conftest import bird_scene

from kpose.inference.segmentation import SaliencySegmenter
from kpose.inference.segmentation.saliency import barrier_distance, random_walk


@pytest.mark.parametrize("place", [(60, 45), (30, 30), (90, 60)])
def test_saliency_finds_what_differs_from_the_border(place: tuple[int, int]) -> None:
    [segment] = SaliencySegmenter().segment(bird_scene(place=place))
    assert segment.mask.shape == (90, 120)
    assert 0.5 < segment.score <= 1
    x, y = place
    assert segment.box == pytest.approx((x - 15, y - 15, x + 15, y + 15), abs=3)


def test_saliency_is_the_same_for_mirrored_pictures() -> None:
    picture = bird_scene(place=(40, 50))
    [one], [other] = (SaliencySegmenter().segment(image) for image in (picture, picture.flip(-1)))
    torch.testing.assert_close(other.mask.flip(-1), one.mask, atol=0.02, rtol=0)


@pytest.mark.parametrize("size", [(8, 8), (8, 300), (300, 9), (64, 64)])
def test_saliency_finds_nothing_in_a_picture_of_one_color(size: tuple[int, int]) -> None:
    assert SaliencySegmenter().segment(torch.full((3, *size), 0.4)) == []
    for segment in SaliencySegmenter().segment(torch.rand(3, *size)):
        assert segment.mask.shape == size
        assert segment.mask.isfinite().all()


def test_a_side_that_is_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16 pixels"):
        SaliencySegmenter(side=8)


def test_barriers_are_ranges_of_color_on_the_way_to_the_border() -> None:
    lab = torch.zeros(3, 9, 9)
    lab[0, 2:7, 2:7] = 30
    lab[0, 4, 4] = 10
    distance = barrier_distance(lab)
    assert distance[4, 4] == 30  # over the wall, whatever lies behind it
    assert distance[3, 3] == 30
    assert distance[1, 1] == 0


def test_a_random_walk_spreads_within_edges_only() -> None:
    lab = torch.zeros(3, 10, 20)
    lab[0, :, 10:] = 50
    prior = torch.full((10, 20), 0.5)
    prior[5, 5] = 1.0
    prior[5, 15] = 0.0
    share = random_walk(lab, prior, 0.05)
    assert ((share >= 0) & (share <= 1)).all()
    assert (share[:, :9] > 0.5).all()
    assert (share[:, 11:] < 0.5).all()
    torch.testing.assert_close(random_walk(lab, torch.full((10, 20), 0.3), 0.05), torch.full((10, 20), 0.3))
