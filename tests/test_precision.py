import pytest
import torch

from kpose._precision import common_precision, fast_autocast, has_bfloat16, widened


def test_half_precision_becomes_single():
    for dtype in (torch.float16, torch.bfloat16):
        assert widened(torch.ones(2, dtype=dtype)).dtype == torch.float32
    for dtype in (torch.float32, torch.float64):
        kept = torch.ones(2, dtype=dtype)
        assert widened(kept) is kept


def test_what_is_combined_is_single_or_double():
    half, single, double = (torch.ones(2, dtype=dtype) for dtype in (torch.float16, torch.float32, torch.float64))
    assert common_precision(half, half.bfloat16()) == common_precision(half, single) == torch.float32
    assert common_precision(half, double) == torch.float64


@pytest.mark.parametrize("capabilities", [{"avx2": True}, {"avx512_bf16": True}, {"amx_bf16": True}])
def test_processors_compute_in_bfloat16_where_they_can(monkeypatch, capabilities):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    able = "avx2" not in capabilities
    assert has_bfloat16(torch.device("cpu")) == able
    layer = torch.nn.Linear(2, 2)
    with fast_autocast(layer):
        assert (layer(torch.zeros(1, 2)).dtype == torch.bfloat16) == able


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_left_as_they_are(monkeypatch, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    layer = torch.nn.Linear(2, 2).to(dtype)
    with fast_autocast(layer):
        assert layer(torch.zeros(1, 2, dtype=dtype)).dtype == dtype


def test_other_devices_are_left_as_they_are():
    layer = torch.nn.Linear(2, 2, device="meta")
    with fast_autocast(layer):
        assert layer(torch.zeros(1, 2, device="meta")).dtype == torch.float32
