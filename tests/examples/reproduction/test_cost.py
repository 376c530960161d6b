import pytest
import torch

from kpose.backbones import TinyBackbone
from kpose.heads import QuaternionHead
from kpose.network import PoseNetwork
from kpose.testing import example_batch

from cost import PeakMemory, step_cost


def test_memory_is_counted_while_it_is_held():
    kept = torch.zeros(1000)
    with PeakMemory() as memory:
        (kept + 1 + 1 + 1).sum()
    # The operand and two intermediate results, of which the older one is freed in time, and nothing twice.
    assert memory.peak == pytest.approx(4 * 3000, abs=16)
    with PeakMemory() as memory:
        view = kept[:10]
        view.t()
    assert memory.peak == 4000
    outside = torch.zeros(10**6) + 1
    assert memory.peak == 4000
    del outside


def test_a_step_holds_weights_gradients_and_moments():
    network = PoseNetwork(TinyBackbone(width=8).freeze(), QuaternionHead)
    weights = sum(parameter.numel() for parameter in network.head.parameters())
    cost = step_cost(network, example_batch(2), steps=2)
    assert cost["step_ms"] > 0
    assert cost["peak_mib"] * 2**20 > 4 * 4 * weights
    larger = step_cost(network, example_batch(8), steps=1)
    assert larger["peak_mib"] > cost["peak_mib"]
