"""The segmentation network, and the two looks of its segmenter."""

import pytest
import torch
from torch import nn

from kpose.backbones import EfficientNetLite
from kpose.geometry import mask_iou
from kpose.inference.segmentation import MaskNetwork, MaskSegmenter
from kpose.testing import check_segmenter


class Red(MaskNetwork):
    """A network that knows its category: what is red, to half a pixel."""

    def __init__(self):
        nn.Module.__init__(self)
        self.gain = nn.Parameter(torch.tensor(40.0))
        self.seen = []

    def forward(self, image):
        self.seen.append(image)
        red = image[:, 0] - image[:, 1:].mean(1)
        return self.gain * (nn.functional.avg_pool2d(red[:, None], 2)[:, 0] - 0.5)


def picture(height, width, *boxes):
    image = torch.zeros(3, height, width)
    for left, top, right, bottom in boxes:
        image[0, top:bottom, left:right] = 1
    return image


def segmenter(**settings):
    return MaskSegmenter(Red(), **{"size": 64, **settings})


def test_masks_lie_where_the_object_is():
    image = picture(90, 160, (100, 20, 130, 50))
    [found] = segmenter(size=128).segment(image)
    assert mask_iou((found.mask > 0.5).float(), image[0]) > 0.9
    assert found.box == pytest.approx((100, 20, 130, 50), abs=1)
    assert 0.9 < found.score <= 1


def test_the_second_look_is_from_near():
    looking = segmenter()
    image = picture(400, 400, (200, 200, 231, 221))
    [found] = looking.segment(image)
    first, second = looking.network.seen
    assert (second[0, 0] > 0.5).float().mean() > 20 * (first[0, 0] > 0.5).float().mean()
    assert found.box == pytest.approx((200, 200, 231, 221), abs=1)


def test_objects_are_told_apart_and_the_largest_comes_first():
    image = picture(120, 120, (5, 5, 20, 20), (60, 50, 110, 100))
    large, small = segmenter().segment(image)
    assert large.box == pytest.approx((60, 50, 110, 100), abs=1)
    assert small.box == pytest.approx((5, 5, 20, 20), abs=1)
    assert len(segmenter(max_objects=1).segment(image)) == 1
    assert len(segmenter(min_area=0.03).segment(image)) == 1


def test_a_neighbor_in_the_second_look_is_left_out():
    image = picture(120, 120, (40, 40, 60, 60), (64, 40, 67, 60))
    masks = [found.mask > 0.5 for found in segmenter(size=256, min_area=0.005).segment(image)]
    assert len(masks) == 1
    assert not masks[0][:, 64:].any()


def test_pictures_are_looked_at_together_and_found_as_alone():
    looking = segmenter(first_size=32)
    pictures = [
        picture(90, 160, (100, 20, 130, 50)),
        picture(50, 70),
        picture(80, 60, (5, 5, 20, 30), (40, 50, 55, 75)),
    ]
    found = looking.segment_all(pictures)
    assert [tuple(seen.shape) for seen in looking.network.seen] == [(3, 3, 32, 32), (3, 3, 64, 64)]
    assert [len(each) for each in found] == [1, 0, 2]
    for one, alone in zip(found, map(looking.segment, pictures), strict=True):
        assert [segment.score for segment in one] == [segment.score for segment in alone]
        assert all(torch.equal(a.mask, b.mask) for a, b in zip(one, alone, strict=True))


def test_nothing_is_found_where_nothing_is():
    assert segmenter().segment(picture(50, 70)) == []


def test_it_keeps_the_contract():
    check_segmenter(segmenter(), [picture(60, 90, (20, 20, 50, 50))])


def test_the_network_gives_logits_of_half_the_size():
    network = MaskNetwork(EfficientNetLite((4, 8, 16, 32)), width=8)
    logits = network(torch.rand(2, 3, 64, 96))
    assert logits.shape == (2, 32, 48)
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_a_segmenter_is_loaded_as_it_was_saved(tmp_path):
    torch.manual_seed(0)
    saved = MaskSegmenter(MaskNetwork(EfficientNetLite((4, 8, 16, 32)), width=8), size=64, min_area=0.0)
    image = torch.rand(3, 40, 60)
    with torch.no_grad():
        saved.network.read.bias += 1  # something is found
    saved.save(tmp_path / "whole")
    loaded = MaskSegmenter.load(tmp_path / "whole")
    assert (loaded.size, loaded.min_area) == (64, 0.0)
    [one, *_], [other, *_] = saved.segment(image), loaded.segment(image)
    assert torch.equal(one.mask, other.mask)
    saved.save(tmp_path / "half", half=True)
    half = MaskSegmenter.load(tmp_path / "half").segment(image)[0]
    assert half.mask.dtype == torch.float32
    torch.testing.assert_close(half.mask, one.mask, atol=0.02, rtol=0)
    sizes = [(tmp_path / name / "segmenter.safetensors").stat().st_size for name in ("whole", "half")]
    assert sizes[1] < 0.55 * sizes[0]


@pytest.mark.parametrize("damage", ["weights", "class"])
def test_a_damaged_segmenter_is_refused_in_one_line(tmp_path, damage):
    MaskSegmenter(MaskNetwork(EfficientNetLite((4, 8)), width=8)).save(tmp_path)
    if damage == "weights":
        (tmp_path / "segmenter.safetensors").write_bytes(b"nothing")
    else:
        (tmp_path / "segmenter.json").write_text('{"class_path": "os.system", "init_args": {"command": "true"}}')
    with pytest.raises(ValueError, match="holds no segmenter of kpose") as caught:
        MaskSegmenter.load(tmp_path)
    assert "\n" not in str(caught.value)
