"""The device that is not there finds what a GPU would not allow, and what it would wait for."""

import pytest
import torch
from torch import nn


def test_data_are_real(place):
    x = torch.arange(6.0, device=place.device).reshape(2, 3)
    assert x.device == place.device
    assert x.T.sum(0).cpu().tolist() == [3.0, 12.0]
    x[:, 0] += 1
    assert x.tolist() == [[1.0, 1.0, 2.0], [4.0, 4.0, 5.0]]


def test_gradients_and_modules(place):
    layer = nn.Linear(3, 1).to(place.device)
    layer(torch.ones(2, 3, device=place.device)).sum().backward()
    assert layer.weight.grad.device == place.device
    assert layer.weight.grad.tolist() == [[2.0, 2.0, 2.0]]
    torch.optim.AdamW(layer.parameters()).step()


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x + torch.ones(3),
        lambda x: torch.stack((x[0], torch.tensor(1.0))),
        lambda x: torch.ones(3)[x.long()],
        lambda x: x.numpy(),
    ],
)
def test_mixed_devices_are_refused(place, operation):
    with pytest.raises((RuntimeError, TypeError)):
        operation(torch.ones(3, device=place.device))


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: torch.ones(3).to(x),
        lambda x: x.new_tensor([1.0, 2.0]),
        lambda x: x[[0, 2]],
        lambda x: x[torch.tensor([0, 2])],
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
        lambda x: bool((x > 0).all()),
        lambda x: torch.linalg.eigvalsh(x[:, None] * x),
    ],
)
def test_waits_are_found(place, operation):
    x = torch.ones(3, device=place.device)
    with place.watched() as waits:
        operation(x)
    assert waits


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: (2 * x + torch.tensor(1.0)).clamp(0, 1),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: x.masked_fill_(x > 0, 2.0),
        lambda x: x[torch.arange(2, device=x.device)],
        lambda x: torch.linalg.cholesky_ex(x[:, None] * x),
        lambda x: x.topk(2),
    ],
)
def test_what_needs_no_wait_is_not_noted(place, operation):
    x = torch.ones(3, device=place.device)
    with place.watched() as waits:
        operation(x)
    assert waits == []
