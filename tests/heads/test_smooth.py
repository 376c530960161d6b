import torch

from kpose.heads.smooth import SmoothNetwork
from kpose.structures import Features, FeatureSpec

SPEC = FeatureSpec((8, 16, 32), (4, 8, 16))


def features(size=2, cells=16):
    return Features(tuple(torch.randn(size, c, cells // 2**i, cells // 2**i) for i, c in enumerate(SPEC.channels)))


def test_output_has_the_size_of_the_finest_map():
    (maps,), last = SmoothNetwork(SPEC, 5, width=8)(features())
    assert maps.shape == (2, 5, 16, 16)
    assert last.shape == (2, 8, 16, 16)


def test_deep_supervision_gives_every_stage_coarse_to_fine():
    maps, _ = SmoothNetwork(SPEC, 5, width=8, deep=True)(features())
    assert [tuple(m.shape[1:]) for m in maps] == [(5, 4, 4), (5, 8, 8), (5, 16, 16)]


def test_untrained_maps_are_nearly_zero():
    (maps,), _ = SmoothNetwork(SPEC, 5, width=8)(features())
    assert maps.abs().max() < 0.5


def test_mirrored_features_give_mirrored_maps_when_the_kernels_are_symmetric():
    # Nothing in the network shifts the grid: align_corners=True would.
    network = SmoothNetwork(SPEC, 3, width=8).eval()
    for parameter in network.parameters():
        if parameter.dim() == 4:
            parameter.data = (parameter.data + parameter.data.flip(-1)) / 2
    inputs = features()
    mirrored = Features(tuple(m.flip(-1) for m in inputs.maps))
    assert torch.allclose(network(inputs)[0][0].flip(-1), network(mirrored)[0][0], atol=1e-5)
