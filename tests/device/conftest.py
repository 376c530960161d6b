"""Devices to run kpose on: one that is not there, everywhere, and a GPU where there is one."""

import contextlib
import warnings

import pytest
import torch

try:
    from device import pretend
except ImportError:  # of what torch lacks
    pretend = None


class Gpu:
    """A GPU that tells what the host waited for, as the device that is not there does."""

    device, accelerator = torch.device("cuda", 0), "cuda"

    @contextlib.contextmanager
    def watched(self):
        waits = []
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield waits
        finally:
            torch.cuda.set_sync_debug_mode("default")
            messages = [each for each in caught if "synchronizing CUDA operation" in str(each.message)]
            waits += [f"{each.filename}:{each.lineno}" for each in messages if "lightning" not in each.filename]


@pytest.fixture(params=["pretend", pytest.param("gpu", marks=pytest.mark.gpu)])
def place(request):
    """A device, and a way to watch what the host waits for."""
    if request.param == "gpu":
        if not torch.cuda.is_available():
            pytest.skip("there is no GPU: torch.cuda.is_available() is False")
        yield Gpu()
        return
    if pretend is None:
        pytest.skip(f"torch {torch.__version__} has no devices made in Python")
    with pretend.pretend_device() as device:
        yield device
