"""Each rule of docs/conventions.md, with numbers written out, and the rule that it is mistaken for."""

import ast
import math
import re
import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from kpose.geometry import (
    apply_crop,
    axis_angle_to_matrix,
    box_to_crop,
    crop_camera,
    flip_camera,
    geodesic_distance,
    gram_schmidt,
    matrix_to_quaternion,
    normalized_to_pixels,
    perspective_to_weak,
    pixels_to_normalized,
    procrustes,
    project,
    project_perspective,
    quaternion_to_matrix,
    random_rotation,
    to_image_frame,
    uncrop_camera,
    viewpoint_to_matrix,
    weak_to_perspective,
)
from kpose.geometry._heatmap import gaussian_heatmaps
from kpose.geometry.rotation import mirror_rotation
from kpose.structures import Camera, Crop, Mesh

ROOT = Path(__file__).parents[1]
QUARTER_ABOUT_Z = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


def camera(scale=1.0, translation=(0.0, 0.0), rotation=None):
    rotation = torch.eye(3) if rotation is None else rotation
    return Camera(torch.tensor(scale), torch.tensor(translation), rotation)


def random_camera(seed=0):
    rotation = random_rotation(generator=torch.Generator().manual_seed(seed))
    return camera(0.7, (0.2, -0.1), rotation)


def test_every_rule_is_on_the_page_and_here():
    page = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    rules = {int(number) for number in re.findall(r"^## (\d+)\.", page, flags=re.M)}
    names = [
        node.name for node in ast.parse(Path(__file__).read_text(encoding="utf-8")).body if hasattr(node, "name")
    ]
    tested = {int(m[1]) for name in names if (m := re.match(r"test_convention_(\d+)_", name))}
    assert rules == tested == set(range(1, 12))


def test_convention_1_camera_frame_is_opencv():
    seen = to_image_frame(torch.tensor([[1.0, 2.0, 3.0]]), camera())
    assert seen.tolist() == [[1.0, 2.0, 3.0]]
    opengl = [[1.0, -2.0, -3.0]]  # +y up, the viewer looks along -z
    assert seen.tolist() != opengl


def test_convention_1_nearer_surfaces_hide_farther_ones():
    from kpose.rendering import HardRenderer

    triangle = torch.tensor([[-3.0, -3.0], [3.0, -3.0], [0.0, 5.0]])
    near = torch.nn.functional.pad(triangle, (0, 1), value=-1.0)
    far = torch.nn.functional.pad(triangle, (0, 1), value=1.0)
    mesh = Mesh(torch.cat((far, near)), torch.tensor([[0, 1, 2], [3, 4, 5]]))
    picture = HardRenderer().render(mesh, camera(), 2)
    assert picture.face_index.unique().tolist() == [1]
    assert picture.depth.unique().tolist() == [-1.0]


def test_convention_2_weak_perspective_is_scale_then_shift():
    seen = project(torch.tensor([[1.0, 0.0, 9.0]]), camera(2.0, (0.5, 0.0)))
    assert seen.tolist() == [[2.5, 0.0]]
    assert seen.tolist() != [[3.0, 0.0]]  # shift before scale: s (X + t)


def test_convention_2_perspective_agrees_in_the_plane_of_the_origin():
    weak = random_camera()
    pinhole = weak_to_perspective(weak, focal=10.0)
    assert pinhole.translation[2].item() == pytest.approx(10.0 / 0.7)
    in_plane = torch.tensor([[0.3, -0.4, 0.0]]) @ weak.rotation  # turned back, so that its depth is zero
    torch.testing.assert_close(project_perspective(in_plane, pinhole), project(in_plane, weak))
    torch.testing.assert_close(perspective_to_weak(pinhole), weak)


def test_convention_3_object_frame_of_birds():
    from kpose.templates import bird

    shape = bird()
    part = dict(zip(shape.part_names, shape.vertices[shape.part_vertices].tolist(), strict=True))
    assert part["beak"][1] < part["throat"][1] < part["tail"][1]
    assert part["belly"][2] < part["back"][2]
    for side in ("eye", "leg", "wing"):
        assert part[f"left {side}"][0] > 0 > part[f"right {side}"][0]
    mirrored = shape.vertices[shape.mirror] * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(mirrored, shape.vertices, atol=1e-6, rtol=0)


def test_convention_3_a_bird_at_azimuth_zero_looks_at_the_viewer():
    zero = torch.zeros(())
    rotation = viewpoint_to_matrix(zero, zero, zero)
    beak, up, left = torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]) @ rotation.mT
    torch.testing.assert_close(beak, torch.tensor([0.0, 0.0, -1.0]))
    torch.testing.assert_close(up, torch.tensor([0.0, -1.0, 0.0]))
    torch.testing.assert_close(left, torch.tensor([1.0, 0.0, 0.0]))


def test_convention_4_points_are_rows_and_rotations_take_object_to_camera():
    seen = to_image_frame(torch.tensor([[1.0, 0.0, 0.0]]), camera(rotation=QUARTER_ABOUT_Z))
    assert seen.tolist() == [[0.0, 1.0, 0.0]]
    assert seen.tolist() != [[0.0, -1.0, 0.0]]  # rows times R, PyTorch3D's reading


def test_convention_4_quaternions_have_the_scalar_first():
    half = math.sqrt(0.5)
    torch.testing.assert_close(quaternion_to_matrix(torch.tensor([half, 0.0, 0.0, half])), QUARTER_ABOUT_Z)
    torch.testing.assert_close(matrix_to_quaternion(QUARTER_ABOUT_Z), torch.tensor([half, 0.0, 0.0, half]))
    scalar_last = quaternion_to_matrix(torch.tensor([0.0, 0.0, half, half]))
    assert not torch.allclose(scalar_last, QUARTER_ABOUT_Z)


def test_convention_4_six_numbers_are_two_columns():
    columns = QUARTER_ABOUT_Z[:, :2].mT.flatten()
    assert columns.tolist() == [0.0, 1.0, 0.0, -1.0, 0.0, 0.0]
    torch.testing.assert_close(gram_schmidt(columns), QUARTER_ABOUT_Z)
    rows = QUARTER_ABOUT_Z[:2].flatten()  # PyTorch3D's reading gives the inverse rotation
    torch.testing.assert_close(gram_schmidt(rows), QUARTER_ABOUT_Z.mT)


def test_convention_4_nine_numbers_are_projected_to_a_rotation_never_a_reflection():
    reflection = torch.diag(torch.tensor([3.0, 2.0, -1.0]))
    projected = procrustes(reflection)
    torch.testing.assert_close(projected, torch.eye(3))
    assert torch.linalg.det(projected).item() == pytest.approx(1.0)


def test_convention_5_pixel_centers_are_at_one_half():
    size = (2, 4)
    assert pixels_to_normalized(torch.tensor([0.5, 0.5]), size).tolist() == [-0.75, -0.5]
    assert pixels_to_normalized(torch.tensor([4.0, 2.0]), size).tolist() == [1.0, 1.0]
    assert normalized_to_pixels(torch.tensor([-1.0, -1.0]), size).tolist() == [0.0, 0.0]
    # align_corners=True would put the center of the first pixel at the corner.
    assert pixels_to_normalized(torch.tensor([0.5, 0.5]), size).tolist() != [-1.0, -1.0]


def test_convention_5_one_grid_for_heatmaps_images_and_masks():
    from kpose.rendering import HardRenderer

    center = pixels_to_normalized(torch.tensor([5.5, 2.5]), (8, 8))
    heatmap = gaussian_heatmaps(center[None], (8, 8), sigma=0.1)[0]
    assert divmod(int(heatmap.argmax()), 8) == (2, 5)
    assert heatmap.max().item() == pytest.approx(1.0)
    corners = center + 0.1 * torch.tensor([[-1.0, -1.0], [1.0, -1.0], [0.0, 1.0]])
    mesh = Mesh(torch.nn.functional.pad(corners, (0, 1)), torch.tensor([[0, 2, 1]]))
    assert HardRenderer().render(mesh, camera(), 8).mask.nonzero().tolist() == [[2, 5]]
    picture = torch.zeros(1, 1, 8, 8)
    picture[..., 2, 5] = 1.0
    sampled = torch.nn.functional.grid_sample(picture, center[None, None, None], align_corners=False)
    assert sampled.item() == pytest.approx(1.0)


def test_convention_5_align_corners_is_always_written_out():
    functions = {"grid_sample", "affine_grid", "interpolate"}
    for path in (ROOT / "kpose").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
            given = {word.arg: word.value for word in node.keywords}
            mode = given.get("mode")
            smooth = not (isinstance(mode, ast.Constant) and mode.value in {"nearest", "nearest-exact", "area"})
            if name in functions and (smooth or name != "interpolate"):
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                assert "align_corners" in given, f"{where}: {name} needs align_corners=False, written out"
                assert ast.unparse(given["align_corners"]) == "False", f"{where}: align_corners must be False"


def test_convention_5_cub_counts_pixels_from_one():
    from kpose.data import cub

    assert cub._OFFSET == -0.5
    others = [path for path in (ROOT / "kpose" / "data").glob("*.py") if path.name != "cub.py"]
    users = [
        path.name for path in others if re.search(r"\bimport\b.*\b_OFFSET\b|cub\._OFFSET", path.read_text("utf-8"))
    ]
    assert users == []


def test_convention_6_masks_are_float_when_rendered():
    from kpose.rendering import HardRenderer, SoftRenderer

    mesh = Mesh(torch.tensor([[-1.0, -1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 1.0, 0.0]]), torch.tensor([[0, 2, 1]]))
    both = Camera(torch.ones(2), torch.zeros(2, 2), torch.eye(3).expand(2, 3, 3))
    for renderer in (HardRenderer(), SoftRenderer()):
        mask = renderer.render(mesh, both, (4, 6)).mask
        assert mask.shape == (2, 4, 6)
        assert mask.dtype == torch.float32
        assert mask.min() >= 0
        assert mask.max() <= 1
    assert gaussian_heatmaps(torch.zeros(2, 5, 2), (4, 6)).shape == (2, 5, 4, 6)


def test_convention_7_radians_inside_and_exact_small_angles():
    assert geodesic_distance(torch.eye(3), QUARTER_ABOUT_Z).item() == pytest.approx(math.pi / 2)
    turned = axis_angle_to_matrix(torch.tensor([1e-4, 0.0, 0.0]))
    assert geodesic_distance(torch.eye(3), turned).item() == pytest.approx(1e-4, rel=1e-5)
    by_trace = torch.acos(((turned.trace() - 1) / 2).clamp(-1, 1)).item()
    assert by_trace == 0.0  # what the acos of a trace makes of it


def test_convention_7_reports_are_in_degrees():
    from kpose.metrics import AngularError

    metric = AngularError()
    metric.update(camera(rotation=QUARTER_ABOUT_Z[None]), camera(rotation=torch.eye(3)[None]))
    value = metric.compute()
    angles = {name: number for name, number in value.items() if name.endswith("_deg")}
    assert angles, f"{sorted(value)}: angles are reported with _deg in their names"
    assert all(number.item() == pytest.approx(90.0) for name, number in angles.items())


def test_convention_8_a_flip_conjugates_the_rotation():
    rotation = axis_angle_to_matrix(torch.tensor([0.1, 0.2, 0.3]))
    w, x, y, z = matrix_to_quaternion(rotation)
    torch.testing.assert_close(matrix_to_quaternion(mirror_rotation(rotation)), torch.stack((w, x, -y, -z)))
    flipped = flip_camera(camera(0.7, (0.2, 0.1), rotation))
    assert flipped.scale.item() == pytest.approx(0.7)
    torch.testing.assert_close(flipped.translation, torch.tensor([-0.2, 0.1]))
    one_sided = torch.diag(torch.tensor([-1.0, 1.0, 1.0])) @ rotation  # M R alone is a reflection
    assert torch.linalg.det(one_sided).item() == pytest.approx(-1.0)
    assert torch.linalg.det(flipped.rotation).item() == pytest.approx(1.0)


def test_convention_8_flipped_camera_projects_mirrored_points_to_the_mirrored_place():
    points = torch.randn(6, 3)
    view = random_camera()
    mirrored = points * torch.tensor([-1.0, 1.0, 1.0])
    expected = project(points, view) * torch.tensor([-1.0, 1.0])
    torch.testing.assert_close(project(mirrored, flip_camera(view)), expected)


def test_convention_8_a_flip_swaps_left_and_right_parts():
    from kpose.data._transforms import flip_batch, mirror_names

    batch = {
        "parts": torch.tensor([[[0.1, 0.2], [0.0, 0.0], [0.5, 0.6]]]),
        "parts_visible": torch.tensor([[True, False, True]]),
    }
    mirror = mirror_names(("left eye", "right eye", "beak"))
    flipped = flip_batch(batch, torch.tensor([True]), part_mirror=mirror)
    torch.testing.assert_close(flipped["parts"], torch.tensor([[[0.0, 0.0], [-0.1, 0.2], [-0.5, 0.6]]]))
    assert flipped["parts_visible"].tolist() == [[False, True, True]]


def test_convention_9_projecting_commutes_with_cropping():
    points = torch.randn(5, 3)
    photo = camera(50.0, (20.0, 25.0), random_camera().rotation)
    crop = box_to_crop(torch.tensor([10.0, 15.0, 30.0, 35.0]))
    torch.testing.assert_close(crop.scale, torch.tensor(0.1))
    seen = apply_crop(project(points, photo), crop)
    torch.testing.assert_close(project(points, crop_camera(photo, crop)), seen)
    torch.testing.assert_close(uncrop_camera(crop_camera(photo, crop), crop), photo)


def test_convention_9_the_crop_of_a_batch_takes_photo_pixels_to_the_crop():
    crop = Crop(torch.tensor(0.1), torch.tensor([-2.0, -2.5]))
    assert apply_crop(torch.tensor([[20.0, 25.0]]), crop).tolist() == [[0.0, 0.0]]


def test_convention_10_a_generator_decides_and_the_global_seed_does_not():
    def draw():
        return random_rotation((3,), generator=torch.Generator().manual_seed(7))

    first = draw()
    torch.manual_seed(1)
    assert torch.equal(first, draw())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_convention_10_dtype_follows_the_inputs(dtype):
    rotation = random_rotation((2,), dtype=dtype)
    view = Camera(torch.ones(2, dtype=dtype), torch.zeros(2, 2, dtype=dtype), rotation)
    assert project(torch.zeros(2, 4, 3, dtype=dtype), view).dtype == dtype
    assert gaussian_heatmaps(torch.zeros(2, 4, 2, dtype=dtype), (4, 4)).dtype == dtype
    assert procrustes(rotation).dtype == dtype


def test_convention_11_logged_names(tmp_path):
    from kpose.backbones import TinyBackbone
    from kpose.heads import QuaternionHead
    from kpose.tasks import PoseEstimator

    view = Camera(torch.ones(2), torch.zeros(2, 2), random_rotation((2,)))
    batch = {"image": torch.rand(2, 3, 64, 64), "mask": torch.ones(2, 64, 64, dtype=torch.bool), "camera": view}
    loader = torch.utils.data.DataLoader([batch], batch_size=None)
    trainer = pl.Trainer(
        default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with warnings.catch_warnings():
        # One worker process is enough for one batch, whatever Lightning advises.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings(
            "ignore", message=".*exceeds the logging interval.*|.*is smaller than the logging.*"
        )
        trainer.fit(PoseEstimator(TinyBackbone(width=8), head=QuaternionHead), loader, loader)
    names = {str(name) for name in trainer.callback_metrics}
    assert {"train/loss", "val/loss", "val/angle_deg", "val/iou"} <= names
    assert all(re.fullmatch(r"(train|val|test)/[a-z0-9_]+", name) for name in names), sorted(names)
