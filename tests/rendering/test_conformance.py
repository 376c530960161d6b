"""What every renderer owes, and agreement of kpose's own with PyTorch3D wherever that is installed."""

import importlib.util

import pytest
import torch
from rendering.scenes import IDENTITY, cameras, colored, lumpy, sphere, textured

from kpose.rendering import CompositeRenderer, HardRenderer, SoftRenderer
from kpose.rendering.pytorch3d import PyTorch3DRenderer
from kpose.rendering.warp import WarpRenderer
from kpose.structures import Mesh

SIGMA = 1e-4
HAS_PYTORCH3D = importlib.util.find_spec("pytorch3d") is not None
needs_pytorch3d = pytest.mark.skipif(
    not HAS_PYTORCH3D,
    reason="PyTorch3D is not installed; the message of PyTorch3DRenderer() says how to install it",
)
needs_warp = pytest.mark.skipif(
    importlib.util.find_spec("warp") is None, reason="NVIDIA Warp is not installed: pip install warp-lang"
)
MAKERS = [
    pytest.param(HardRenderer, id="hard"),
    pytest.param(lambda **settings: CompositeRenderer(SIGMA, **settings), id="composite"),
    pytest.param(lambda **settings: SoftRenderer(SIGMA, **settings), id="soft"),
    pytest.param(
        lambda **settings: PyTorch3DRenderer(SIGMA, faces_per_pixel=200, **settings),
        id="pytorch3d",
        marks=[needs_pytorch3d, pytest.mark.filterwarnings("ignore")],
    ),
    pytest.param(lambda **settings: WarpRenderer(SIGMA, **settings), id="warp", marks=needs_warp),
]
every_renderer = pytest.mark.parametrize("maker", MAKERS)


@every_renderer
def test_shapes_and_ranges(maker):
    rendering = maker().render(colored(lumpy(2, 1)), cameras(2, 2), (10, 14))
    assert rendering.mask.shape == rendering.depth.shape == rendering.face_index.shape == (2, 2, 10, 14)
    assert rendering.barycentrics.shape == (2, 2, 10, 14, 3)
    assert rendering.rgb.shape == (2, 2, 3, 10, 14)
    assert bool(((rendering.mask >= 0) & (rendering.mask <= 1)).all())
    assert bool(((rendering.rgb >= -1e-5) & (rendering.rgb <= 1 + 1e-5)).all())
    assert maker().render(sphere(), IDENTITY, 8).rgb is None
    torch.testing.assert_close(
        maker().silhouette(lumpy(2), cameras(2), 10), maker().render(lumpy(2), cameras(2), 10).mask
    )


@every_renderer
def test_right_is_right_and_down_is_down(maker):
    triangle = Mesh(torch.tensor([[0.1, 0.1, 0], [0.95, 0.1, 0], [0.1, 0.95, 0]]), torch.tensor([[0, 2, 1]]))
    rendering = maker(cull_back_faces=True).render(triangle, IDENTITY, 20)
    rows, columns = (rendering.face_index >= 0).nonzero().T
    assert rows.min() == columns.min() == 11
    assert rows.max() == columns.max() == 18
    turned = triangle._replace(faces=triangle.faces.flip(1))
    assert maker(cull_back_faces=True).render(turned, IDENTITY, 20).face_index.max() == -1
    assert maker().render(turned, IDENTITY, 20).face_index.max() == 0


@every_renderer
def test_near_hides_far(maker):
    # No pixel on the diagonal: PyTorch3D leaves a crack between the faces there.
    square = torch.tensor([[-1.3, -1.1], [1.2, -1.3], [-1.2, 1.4], [1.5, 1.1]])
    vertices = torch.cat([torch.nn.functional.pad(square, (0, 1), value=z) for z in (1.0, -1.0)])
    colors = torch.tensor([[1.0, 0, 0]] * 4 + [[0, 0, 1.0]] * 4)
    mesh = Mesh(vertices, torch.tensor([[0, 2, 1], [1, 2, 3], [4, 6, 5], [5, 6, 7]]), vertex_colors=colors)
    rendering = maker().render(mesh, IDENTITY, 6)
    torch.testing.assert_close(rendering.depth, torch.full((6, 6), -1.0))
    assert rendering.face_index.min() == 2
    assert rendering.rgb[2].min() > 0.9
    assert rendering.rgb[0].max() < 0.01


@every_renderer
@pytest.mark.parametrize("paint", [colored, textured], ids=["colours", "texture"])
def test_agrees_with_the_hard_renderer_inside(maker, paint):
    mesh, camera = paint(lumpy(3)), cameras(3)
    rendering, hard = maker().render(mesh, camera, 24), HardRenderer().render(mesh, camera, 24)
    same = rendering.face_index == hard.face_index
    assert (~same).sum() <= 2, "all pixels but ties"
    same &= hard.face_index >= 0
    torch.testing.assert_close(rendering.depth[same], hard.depth[same], atol=1e-3, rtol=0)
    torch.testing.assert_close(rendering.barycentrics[same], hard.barycentrics[same], atol=1e-3, rtol=0)


@every_renderer
def test_not_finite_is_an_error(maker):
    with pytest.raises(ValueError, match="finite vertices and cameras"):
        maker().render(sphere(), IDENTITY._replace(scale=torch.tensor(torch.nan)), 8)


@needs_pytorch3d
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cull", [False, True])
@pytest.mark.parametrize("paint", [colored, textured], ids=["colours", "texture"])
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
