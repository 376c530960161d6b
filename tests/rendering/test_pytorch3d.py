import importlib.util

import pytest
import torch
from rendering.scenes import (
    cameras,
    colored,
    lumpy,
    textured,
)

from kpose.rendering import CompositeRenderer, PyTorch3DRenderer

SIGMA = 1e-4
HAS_PYTORCH3D = importlib.util.find_spec("pytorch3d") is not None
needs_pytorch3d = pytest.mark.skipif(
    not HAS_PYTORCH3D,
    reason="PyTorch3D is not installed; the message of PyTorch3DRenderer() says how to install it",
)


@needs_pytorch3d
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("paint", [colored, textured], ids=["colors", "texture"])
def test_composite_agrees_with_pytorch3d(paint, cull):
    mesh, camera = paint(lumpy(2)), cameras(2)
    name = "vertex_colors" if mesh.texture is None else "texture"
    theirs = PyTorch3DRenderer(SIGMA, faces_per_pixel=200, cull_back_faces=cull)
    results = []
    for renderer in (CompositeRenderer(SIGMA, cull_back_faces=cull), theirs):
        inputs = [part.clone().requires_grad_() for part in (mesh.vertices, getattr(mesh, name), *camera)]
        values = {"vertices": inputs[0], name: inputs[1]}
        rendering = renderer.render(mesh._replace(**values), camera._make(inputs[2:]), 24)
        weight = torch.rand(rendering.mask.shape, generator=torch.Generator().manual_seed(3))
        mask = torch.autograd.grad((weight * rendering.mask).sum(), inputs[:1] + inputs[2:], retain_graph=True)
        (appearance,) = torch.autograd.grad((weight.unsqueeze(1) * rendering.rgb).sum(), inputs[1])
        results.append((rendering, [*mask, appearance]))
    (ours, our_gradients), (other, other_gradients) = results
    torch.testing.assert_close(ours.mask, other.mask, atol=2e-5, rtol=0)
    same = (ours.face_index == other.face_index).unsqueeze(1).expand_as(ours.rgb)
    torch.testing.assert_close(ours.rgb[same], other.rgb[same], atol=1e-3, rtol=0)
    for one, two in zip(our_gradients, other_gradients, strict=True):
        assert (one - two).norm() < 1e-3 * two.norm()


@pytest.mark.skipif(HAS_PYTORCH3D, reason="PyTorch3D is installed")
def test_absence_says_how_to_install():
    with pytest.raises(ImportError, match="pip install"):
        PyTorch3DRenderer()
