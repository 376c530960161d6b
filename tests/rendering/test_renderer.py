import importlib.util

import pytest
import torch
from rendering.scenes import (
    IDENTITY,
    cameras,
    colored,
    lumpy,
    sphere,
    textured,
)

from kpose.rendering import (
    CompositeRenderer,
    HardRenderer,
    PyTorch3DRenderer,
    SoftRenderer,
    WarpRenderer,
    fast_renderer,
)
from kpose.structures import Camera, Mesh

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
RENDERERS = [HardRenderer(), CompositeRenderer(1e-3), SoftRenderer(1e-3, 1e-2), fast_renderer(1e-3)]


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
@pytest.mark.parametrize("paint", [colored, textured], ids=["colors", "texture"])
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


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: type(r).__name__)
def test_degenerate_input_gives_an_empty_image(renderer):
    mesh, camera = colored(sphere(1)), cameras()
    line = mesh._replace(vertices=mesh.vertices * torch.tensor([1.0, 0, 0]))
    far = camera._replace(translation=torch.tensor([50.0, -80.0]))
    no_faces = mesh._replace(faces=mesh.faces[:0])
    for one, seen_by in ((line, IDENTITY), (mesh, far), (no_faces, camera)):
        vertices = one.vertices.clone().requires_grad_()
        rendering = renderer.render(one._replace(vertices=vertices), seen_by, 8)
        assert bool((rendering.mask == 0).all())
        assert bool((rendering.rgb == 0).all())
        assert bool((rendering.face_index == -1).all())
        if rendering.rgb.requires_grad:
            (gradient,) = torch.autograd.grad(rendering.rgb.sum(), vertices)
            assert bool((gradient == 0).all())
    empty = renderer.render(Mesh(torch.zeros(0, 5, 3), torch.tensor([[0, 1, 2]])), cameras(0), 8)
    assert empty.mask.shape == (0, 8, 8)
    assert empty.barycentrics.shape == (0, 8, 8, 3)


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: type(r).__name__)
def test_errors_say_what_to_do(renderer):
    mesh, camera = sphere(1), cameras()
    broken = mesh.vertices.clone()
    broken[3, 1] = torch.nan
    with pytest.raises(ValueError, match="finite vertices and cameras"):
        renderer.render(mesh._replace(vertices=broken), camera, 8)
    with pytest.raises(ValueError, match="finite vertices and cameras"):
        renderer.render(mesh, camera._replace(scale=torch.tensor(torch.inf)), 8)
    with pytest.raises(ValueError, match=r"within 1e\+06 image units"):
        renderer.render(mesh._replace(vertices=mesh.vertices * 1e9), camera, 8)
    with pytest.raises(ValueError, match="got both"):
        renderer.render(colored(textured(mesh)), camera, 8)
    with pytest.raises(ValueError, match="uv and uv_faces"):
        renderer.render(textured(mesh)._replace(uv=None), camera, 8)
    with pytest.raises(ValueError, match="at least 1 x 1"):
        renderer.render(mesh, camera, 0)
    with pytest.raises(ValueError, match="max_pairs of at least 1"):
        type(renderer)(max_pairs=0).render(mesh, camera, 8)


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: type(r).__name__)
def test_half_precision_is_rasterized_in_float32(renderer):
    mesh, camera = colored(sphere()), cameras(2)
    exact = renderer.render(mesh, camera, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = renderer.render(mesh, camera, 16)
    for one, other in zip(exact, under_autocast, strict=True):
        torch.testing.assert_close(one, other)
    half = renderer.render(
        mesh._replace(vertices=mesh.vertices.half()), Camera(*(part.half() for part in camera)), 16
    )
    assert half.mask.dtype == torch.float32
    assert renderer.render(mesh._replace(vertices=mesh.vertices.double()), camera, 8).mask.dtype == torch.float64
