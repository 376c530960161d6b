import torch
from rendering.scenes import IDENTITY, cameras, centers, lumpy, read_golden, sphere

from kpose.geometry import to_image_frame
from kpose.rendering import HardRenderer
from kpose.structures import Mesh


def test_agrees_with_pytorch3d():
    golden = read_golden()
    vertices = golden["projected"] - torch.tensor([0.0, 0.0, 5.0])
    rendering = HardRenderer().render(Mesh(vertices, golden["faces"].long()), IDENTITY, 48)
    same = rendering.face_index == golden["hard_face"]
    assert (~same).sum() <= 1, "all pixels but ties"
    same &= rendering.face_index >= 0
    torch.testing.assert_close(rendering.barycentrics[same], golden["hard_bary"][same], atol=1e-4, rtol=0)
    # PyTorch3D adds 1e-8 to areas, which shows in slivers; float64 is as far from its values as float32 is.
    torch.testing.assert_close(rendering.depth[same] + 5, golden["hard_depth"][same], atol=1e-3, rtol=0)
    assert (rendering.depth + 5 - golden["hard_depth"])[same].abs().median() < 1e-5


def test_barycentrics_rebuild_the_pixel_and_its_depth():
    mesh, camera = lumpy(3), cameras(3)
    rendering = HardRenderer().render(mesh, camera, 24)
    corners = to_image_frame(mesh.vertices, camera)[:, mesh.faces]
    for image in range(3):
        seen = rendering.face_index[image] >= 0
        weights = rendering.barycentrics[image][seen]
        points = (weights.unsqueeze(-1) * corners[image][rendering.face_index[image][seen]]).sum(-2)
        torch.testing.assert_close(points[:, :2], centers(24)[seen], atol=1e-5, rtol=0)
        torch.testing.assert_close(points[:, 2], rendering.depth[image][seen], atol=1e-5, rtol=0)
        assert bool((weights >= -1e-4).all())
    hidden = rendering.face_index < 0
    assert bool(rendering.depth[hidden].isposinf().all())
    assert bool((rendering.barycentrics[hidden] == 0).all())


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
