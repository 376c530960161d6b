import importlib.util
import sys
import warnings

import pytest
import torch
from rendering.scenes import (
    cameras,
    colored,
    lumpy,
    sphere,
    textured,
)

from kpose.rendering import CompositeRenderer, WarpRenderer, fast_renderer
from kpose.rendering import warp as module

needs_warp = pytest.mark.skipif(
    importlib.util.find_spec("warp") is None, reason="NVIDIA Warp is not installed: pip install warp-lang"
)


@needs_warp
@pytest.mark.parametrize("paint", [colored, textured], ids=["colors", "texture"])
def test_pictures_are_those_of_torch(paint):
    mesh, camera = paint(lumpy(3)), cameras(3)
    results = []
    for renderer in (CompositeRenderer(1e-4), WarpRenderer(1e-4)):
        vertices = mesh.vertices.clone().requires_grad_()
        rendering = renderer.render(mesh._replace(vertices=vertices), camera, 32)
        loss = rendering.rgb.square().sum() + rendering.depth.clamp_max(10).sum()
        results.append((*rendering, *torch.autograd.grad(loss, vertices)))
    assert torch.equal(results[0][2], results[1][2])
    for plain, compiled in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, atol=1e-4, rtol=1e-4)


@needs_warp
def test_one_float_a_pixel_is_stored():
    mesh, camera, size = sphere(), cameras(6), 64
    stored = {}

    def store(tensor):
        stored[tensor.data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
        vertices = mesh.vertices.clone().requires_grad_()
        WarpRenderer(1e-3).silhouette(mesh._replace(vertices=vertices), camera, size)
    small = 6 * mesh.vertices.numel() * 4 + mesh.faces.numel()
    assert 6 * size * size <= sum(stored.values()) <= 6 * size * size + small


@needs_warp
def test_is_an_operation_that_torch_can_trace():
    vertices = lumpy(2).vertices.requires_grad_()
    torch.library.opcheck(module._cover, (vertices, sphere().faces, 8, 9, 1e-2, False))


@needs_warp
def test_double_precision_is_left_to_torch():
    mesh, camera = sphere(1, torch.float64), cameras(dtype=torch.float64)
    mask = WarpRenderer(1e-3).silhouette(mesh, camera, 8)
    assert torch.equal(mask, CompositeRenderer(1e-3).silhouette(mesh, camera, 8))


@needs_warp
def test_the_fastest_is_chosen():
    renderer = fast_renderer(1e-3, cull_back_faces=True, max_pairs=99)
    assert isinstance(renderer, WarpRenderer)
    assert (renderer.sigma, renderer.cull_back_faces, renderer.max_pairs) == (1e-3, True, 99)


@pytest.fixture
def forgotten():
    """Look for Warp again, before and after."""
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
