import pytest
import torch
from fakes import PART_NAMES, PARTS, draw_cameras, seen_parts, write_fake_cub

from kpose.data import read_mean_parts
from kpose.data.cub import read_cub
from kpose.data.sfm import factorize, main, structure_from_motion
from kpose.geometry import geodesic_distance, project
from kpose.geometry.rotation import mirror_rotation


def observe(count: int, noise: float = 0.0, seed: int = 0):
    """Return parts of birds of about 60 pixels, of which the hidden ones are not a number, and the cameras."""
    generator = torch.Generator().manual_seed(seed)
    camera = draw_cameras(count, generator)
    points = project(PARTS.expand(count, -1, -1), camera)
    points = points + noise * torch.randn(points.shape, generator=generator)
    visible = seen_parts(camera, generator)
    sizes = (points.amax(1) - points.amin(1)).amax(-1)
    return torch.where(visible[..., None], points, torch.nan), visible, sizes, camera


@pytest.fixture(scope="module")
def noisy():
    """Noisy parts of sixty birds, their sizes, and what structure from motion finds."""
    points, visible, sizes, _ = observe(60, noise=0.5)
    return points, visible, sizes, structure_from_motion(points, visible, PART_NAMES, sizes=sizes)


@pytest.mark.parametrize("seed", [0, 5, 12])  # of forty, the last two have the images slowest to converge
def test_exact_observations_give_the_exact_shape_and_cameras(seed: int):
    points, visible, sizes, camera = observe(80, seed=seed)
    result = structure_from_motion(points, visible, PART_NAMES, sizes=sizes)
    solved = result.camera.scale.isfinite()
    assert torch.equal(solved, visible.sum(1) >= 6)
    # The frame's origin is the mean of the parts and its y axis runs from crown to tail; the fake's are elsewhere.
    tail, crown = PARTS[13] - PARTS[4], result.shape[13] - result.shape[4]
    assert crown[0].abs() < 1e-4
    assert crown[2].abs() < 1e-4
    tilt = torch.atan2(tail[2], tail[1])
    c, s = tilt.cos().item(), tilt.sin().item()
    turn = torch.tensor([[1.0, 0, 0], [0, c, s], [0, -s, c]])
    assert (result.shape - (PARTS - PARTS.mean(0)) @ turn.mT).abs().max() < 2e-3
    angle = geodesic_distance(result.camera.rotation, camera.rotation @ turn.mT)[solved]
    assert angle.median() < 2e-3
    assert angle.rad2deg().max() < 0.1
    assert result.error[solved].median() < 0.02
    assert result.error[~solved].isnan().all()


def test_noise_does_not_decide_which_side_is_seen():
    points, visible, sizes, camera = observe(120, noise=1.0, seed=1)
    result = structure_from_motion(points, visible, PART_NAMES, sizes=sizes)
    solved = result.camera.scale.isfinite()
    angle = geodesic_distance(result.camera.rotation, camera.rotation)[solved].rad2deg()
    assert angle.median() < 8
    assert (angle > 60).float().mean() < 0.05


def test_shape_is_in_the_object_frame(noisy):
    shape = noisy[3].shape
    parts = dict(zip(PART_NAMES, shape, strict=True))
    assert torch.cdist(shape, shape).max().sub(2).abs() < 1e-5
    assert shape.mean(0).abs().max() < 1e-5
    assert parts["left wing"][0] > 0.1
    assert torch.allclose(parts["left leg"] * torch.tensor([-1.0, 1, 1]), parts["right leg"], atol=1e-5)
    assert parts["beak"][1] < parts["tail"][1]
    assert parts["crown"][2].sub(parts["tail"][2]).abs() < 1e-5
    assert parts["back"][2] > parts["belly"][2]


def test_mirrored_images_give_mirrored_cameras(noisy):
    points, visible, sizes, first = noisy
    order = [0, 1, 2, 3, 4, 5, 10, 11, 12, 9, 6, 7, 8, 13, 14]
    mirrored = points[:, order] * torch.tensor([-1.0, 1.0])
    other = structure_from_motion(mirrored, visible[:, order], PART_NAMES, sizes=sizes)
    assert torch.allclose(first.shape, other.shape, atol=1e-3)
    solved = first.camera.scale.isfinite()
    angle = geodesic_distance(mirror_rotation(first.camera.rotation), other.camera.rotation)[solved]
    assert angle.median() < 1e-2


def test_units_of_the_image_do_not_matter(noisy):
    points, visible, sizes, first = noisy
    other = structure_from_motion(points * 10 + 500, visible, PART_NAMES, sizes=sizes * 10)
    solved = first.camera.scale.isfinite()
    assert torch.allclose(other.shape, first.shape, atol=1e-3)
    assert torch.allclose(other.camera.scale[solved] / 10, first.camera.scale[solved], rtol=1e-2)


def test_only_the_images_to_learn_from_shape_the_mean():
    points, visible, sizes, _ = observe(60, noise=0.5)
    learn = torch.arange(60) < 40
    junk = torch.where(learn[:, None, None], points, points.flip(1))
    one = structure_from_motion(points, visible, PART_NAMES, sizes=sizes, learn=learn).shape
    other = structure_from_motion(junk, visible, PART_NAMES, sizes=sizes, learn=learn).shape
    assert torch.equal(one, other)


def test_too_little_is_refused():
    points, visible, sizes, _ = observe(40)
    with pytest.raises(ValueError, match="ten images"):
        structure_from_motion(points[:5], visible[:5], PART_NAMES, sizes=sizes[:5])
    with pytest.raises(ValueError, match="seen 0 times"):
        factorize(points, visible & (torch.arange(15) != 1), PART_NAMES, sizes=sizes)
    names = ["cap" if name == "crown" else name for name in PART_NAMES]
    with pytest.raises(ValueError, match=r"parts \['crown'\]"):
        factorize(points, visible, names, sizes=sizes)


def test_command_writes_what_the_data_set_reads(tmp_path):
    camera = write_fake_cub(tmp_path / "cub", 60, cameras=False, pictures=False)
    main([str(tmp_path / "cub")])
    notes = read_cub(tmp_path / "cub")
    solved = notes.camera.scale.isfinite()
    assert solved.sum() > 40
    assert {notes.splits[row] for row in solved.nonzero()[:, 0].tolist()} == {"train", "val", "test"}
    mean = read_mean_parts(tmp_path / "cub/sfm/mean_parts.csv")
    distance = (project(mean.expand(60, -1, -1), notes.camera) - notes.parts).norm(dim=-1)
    assert distance[solved][notes.parts_visible[solved]].median() < 0.1
    assert geodesic_distance(notes.camera.rotation, camera.rotation)[solved].rad2deg().median() < 5
    main([str(tmp_path / "cub"), "--out", str(tmp_path / "new/cameras.csv"), "--min-parts", "9"])
    again = read_cub(tmp_path / "cub", tmp_path / "new/cameras.csv")
    assert again.camera.scale.isfinite().sum() < solved.sum()


def test_command_ends_with_one_line_when_a_file_is_missing(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_info:
        main([str(tmp_path)])
    assert exit_info.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_real_cameras_are_those_of_cmr(cub_root):
    notes = read_cub(cub_root)
    few = slice(None, None, 18)  # these images are enough, and quicker
    sizes = (notes.boxes[:, 2:] - notes.boxes[:, :2]).amax(1)[few]
    result = structure_from_motion(notes.parts[few], notes.parts_visible[few], notes.part_names, sizes=sizes)
    solved = result.camera.scale.isfinite() & notes.camera.scale[few].isfinite()
    angle = geodesic_distance(result.camera.rotation, notes.camera.rotation[few])[solved].rad2deg()
    assert angle.median() < 10
    assert angle.mean() < 15
