"""What is chosen where Warp is absent or broken."""

import sys
import warnings

import pytest

from kpose.rendering import CompositeRenderer, fast_renderer
from kpose.rendering import warp as module
from kpose.rendering.warp import WarpRenderer


@pytest.fixture
def forgotten():
    """Look for Warp anew, before and after."""
    caches = module._is_usable, module._kernels, module._is_ready
    for function in caches:
        function.cache_clear()
    yield
    for function in caches:
        function.cache_clear()


@pytest.mark.usefixtures("forgotten")
def test_without_warp_torch_draws(monkeypatch):
    monkeypatch.setitem(sys.modules, "warp", None)
    assert type(fast_renderer(1e-3)) is CompositeRenderer
    with pytest.raises(ImportError, match="pip install"):
        WarpRenderer()


@pytest.mark.usefixtures("forgotten")
def test_a_broken_warp_is_reported_once(monkeypatch):
    def fail():
        raise RuntimeError("driver too old")

    monkeypatch.setattr(module, "find_spec", lambda name: object())
    monkeypatch.setattr(module, "_kernels", fail)
    with pytest.warns(UserWarning, match="driver too old"):
        assert type(fast_renderer(1e-3)) is CompositeRenderer
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast_renderer(1e-3)
