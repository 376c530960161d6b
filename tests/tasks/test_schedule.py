import pytest
import torch

from kpose.tasks import one_cycle


def test_rates_rise_to_those_of_the_optimizer_and_fall():
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in (2e-3, 4e-4)]
    optimizer = torch.optim.AdamW(groups)
    schedule = one_cycle(optimizer, 100)
    rates = []
    for _ in range(99):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    first, second = zip(*rates, strict=True)
    assert max(first) == pytest.approx(2e-3)
    assert max(second) == pytest.approx(4e-4)
    assert 5 <= first.index(max(first)) <= 15
    assert first[-1] < 2e-5
