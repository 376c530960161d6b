from pathlib import Path

import numpy as np
import pytest
import torch
from rendering.scenes import IDENTITY, cameras, colored, lumpy, sphere, textured

from kpose.geometry import to_image_frame
from kpose.rendering import CompositeRenderer, HardRenderer, SoftRenderer, fast_renderer
from kpose.structures import Camera, Mesh

GOLDEN = Path(__file__).parents[1] / "golden" / "pytorch3d_renders.npz"
RENDERERS = [HardRenderer(), CompositeRenderer(1e-3), SoftRenderer(1e-3, 1e-2), fast_renderer(1e-3)]


def centres(size):
    line = (2 * torch.arange(size) + 1) / size - 1
    return torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)


def test_coverage_of_a_triangle_by_hand():
    # Legs along the left and the upper border: pixel (i, j) is inside when its centre is above the diagonal.
    mesh = Mesh(torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]]), torch.tensor([[0, 2, 1]]))
    mask = HardRenderer().render(mesh, IDENTITY, 5).mask
    i, j = torch.meshgrid(torch.arange(5), torch.arange(5), indexing="ij")
    torch.testing.assert_close(mask, (i + j < 5).float())


def test_coverage_in_an_oblong_image():
    mesh = Mesh(
        torch.tensor([[-1.0, -1, 0], [0, -1, 0], [-1, 1, 0], [0, 1, 0]]), torch.tensor([[0, 2, 1], [1, 2, 3]])
    )
    mask = HardRenderer().render(mesh, IDENTITY, (3, 8)).mask
    assert mask.shape == (3, 8)
    assert bool((mask[:, :4] == 1).all())
    assert bool((mask[:, 4:] == 0).all())


def test_agrees_with_pytorch3d():
    golden = {key: torch.from_numpy(value) for key, value in np.load(GOLDEN).items()}
    vertices = golden["projected"] - torch.tensor([0.0, 0.0, 5.0])
    rendering = HardRenderer().render(Mesh(vertices, golden["faces"].long()), IDENTITY, 48)
    same = rendering.face_index == golden["hard_face"]
    assert (~same).sum() <= 1, "all pixels but ties"
    same &= rendering.face_index >= 0
    torch.testing.assert_close(rendering.barycentrics[same], golden["hard_bary"][same], atol=1e-4, rtol=0)
    # PyTorch3D adds 1e-8 to areas, which shows in slivers; float64 is as far from its values as float32 is.
    torch.testing.assert_close(rendering.depth[same] + 5, golden["hard_depth"][same], atol=1e-3, rtol=0)
    assert (rendering.depth + 5 - golden["hard_depth"])[same].abs().median() < 1e-5


def test_nearer_face_hides_the_farther_whatever_the_order():
    square = torch.tensor([[-1.0, -1], [1, -1], [-1, 1], [1, 1]])
    depths = torch.tensor([0.5, -0.5, 0.0])
    vertices = torch.cat([torch.cat((square, torch.full((4, 1), z)), 1) for z in depths])
    faces = torch.tensor([[0, 2, 1], [1, 2, 3]])
    rendering = HardRenderer().render(Mesh(vertices, torch.cat([faces + 4 * k for k in range(3)])), IDENTITY, 4)
    assert bool(((rendering.face_index == 2) | (rendering.face_index == 3)).all())
    torch.testing.assert_close(rendering.depth, torch.full((4, 4), -0.5))


def test_faces_at_equal_depth_give_the_first():
    mesh = Mesh(torch.tensor([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0]]), torch.tensor([[0, 2, 1], [0, 2, 1]]))
    assert HardRenderer().render(mesh, IDENTITY, 4).face_index.max() == 0


@pytest.mark.parametrize("size", [7, 16, 33])
def test_neighbouring_faces_leave_no_cracks(size):
    # A grid whose vertices lie exactly on pixel centres and their rows, the worst case for rounding.
    line = (2 * torch.arange(size) + 1) / size - 1
    count = size - 1
    y, x = torch.meshgrid(line, line, indexing="ij")
    index = torch.arange(size * size).view(size, size)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = torch.cat((torch.stack((a, c, b), -1).view(-1, 3), torch.stack((b, c, d), -1).view(-1, 3)))
    vertices = torch.stack((x, y, torch.zeros_like(x)), -1).view(-1, 3)
    assert len(faces) == 2 * count**2
    mask = HardRenderer().render(Mesh(vertices, faces), IDENTITY, size).mask
    assert bool((mask == 1).all())


def test_barycentrics_rebuild_the_pixel_and_its_depth():
    mesh, camera = lumpy(3), cameras(3)
    rendering = HardRenderer().render(mesh, camera, 24)
    corners = to_image_frame(mesh.vertices, camera)[:, mesh.faces]
    for image in range(3):
        seen = rendering.face_index[image] >= 0
        weights = rendering.barycentrics[image][seen]
        points = (weights.unsqueeze(-1) * corners[image][rendering.face_index[image][seen]]).sum(-2)
        torch.testing.assert_close(points[:, :2], centres(24)[seen], atol=1e-5, rtol=0)
        torch.testing.assert_close(points[:, 2], rendering.depth[image][seen], atol=1e-5, rtol=0)
        assert bool((weights >= -1e-4).all())
    hidden = rendering.face_index < 0
    assert bool(rendering.depth[hidden].isposinf().all())
    assert bool((rendering.barycentrics[hidden] == 0).all())


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: type(r).__name__)
def test_batch_equals_loop_with_cameras_broadcast_over_meshes(renderer):
    mesh, camera = colored(lumpy(2, 1)), cameras(2, 3)
    together = renderer.render(mesh, camera, 16)
    assert together.rgb.shape == (2, 3, 3, 16, 16)
    for b in range(2):
        for p in range(3):
            alone = renderer.render(
                mesh._replace(vertices=mesh.vertices[b, 0], vertex_colors=mesh.vertex_colors[b, 0]),
                Camera(*(part[b, p] for part in camera)),
                16,
            )
            for one, other in zip(alone, together, strict=True):
                torch.testing.assert_close(one, other[b, p])
    torch.testing.assert_close(renderer.silhouette(mesh, camera, 16), together.mask)


@pytest.mark.parametrize("renderer", RENDERERS, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("max_pairs", [300, 3000])
def test_bounded_memory_changes_nothing(renderer, max_pairs):
    mesh, camera = textured(lumpy(4), 8, 16), cameras(4)
    bounded = type(renderer)(max_pairs=max_pairs)
    usual = type(renderer)()
    results = []
    for one in (usual, bounded):
        vertices = mesh.vertices.clone().requires_grad_()
        texture = mesh.texture.clone().requires_grad_()
        rendering = one.render(mesh._replace(vertices=vertices, texture=texture), camera, 12)
        loss = rendering.rgb.square().sum() + rendering.mask.sum() + rendering.depth.clamp_max(10).sum()
        results.append((*rendering, *torch.autograd.grad(loss, (vertices, texture))))
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


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
def test_half_precision_is_rasterised_in_float32(renderer):
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


def test_back_faces_of_a_closed_mesh_do_not_show():
    mesh, camera = sphere(), cameras(4)
    all_faces = HardRenderer().render(mesh, camera, 32)
    front_faces = HardRenderer(cull_back_faces=True).render(mesh, camera, 32)
    for one, other in zip(all_faces[:4], front_faces[:4], strict=True):
        torch.testing.assert_close(one, other)
    inside_out = HardRenderer(cull_back_faces=True).render(mesh._replace(faces=mesh.faces.flip(1)), camera, 32)
    covered = all_faces.face_index >= 0
    assert bool((inside_out.depth > all_faces.depth)[covered].all())


def test_gradients_of_depth_and_barycentrics():
    mesh, camera = lumpy(dtype=torch.float64), cameras(dtype=torch.float64)
    reference = HardRenderer().render(mesh, camera, 10)
    seen = reference.face_index >= 0

    def depth(vertices, scale):
        rendering = HardRenderer().render(mesh._replace(vertices=vertices), camera._replace(scale=scale), 10)
        return rendering.depth[seen], rendering.barycentrics[seen]

    inputs = mesh.vertices.clone().requires_grad_(), camera.scale.clone().requires_grad_()
    assert torch.autograd.gradcheck(depth, inputs, eps=1e-7, atol=1e-5, fast_mode=True)
