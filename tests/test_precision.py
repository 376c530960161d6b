import torch

from kpose._precision import common_precision, widened


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
