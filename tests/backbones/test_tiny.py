import torch

from kpose.backbones import TinyBackbone


def test_spec_says_what_forward_gives():
    backbone = TinyBackbone(width=16)
    maps = backbone(torch.rand(2, 3, 96, 64)).maps
    assert tuple(m.shape[1] for m in maps) == backbone.spec.channels == (16, 32, 64, 128)
    for m, stride in zip(maps, backbone.spec.strides, strict=True):
        assert m.shape[-2:] == (96 // stride, 64 // stride)


def test_a_batch_of_one_trains():
    backbone = TinyBackbone(width=8).train()
    assert all(m.isfinite().all() for m in backbone(torch.rand(1, 3, 64, 64)).maps)
