import pytest
import torch
from fakes import PART_NAMES, PARTS, draw_cameras

from kpose.data._transforms import (
    RandomColor,
    RandomCropJitter,
    RandomFlip,
    flip_batch,
    mirror_names,
    recrop_batch,
)
from kpose.geometry import apply_crop, box_to_crop, crop_camera, pixels_to_normalized, project, undo_crop
from kpose.structures import Crop

COUNT, SIZE = 6, 32
MIRROR = mirror_names(PART_NAMES)


@pytest.fixture
def batch():
    """Images whose red and green are the normalized position, masks of one half plane, and consistent parts."""
    generator = torch.Generator().manual_seed(0)
    crop = box_to_crop(torch.tensor([10.0, 0.0, 110.0, 100.0]).expand(COUNT, 4))
    camera = crop_camera(draw_cameras(COUNT, generator), crop)
    axis = (torch.arange(SIZE) + 0.5) * 2 / SIZE - 1
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    visible = torch.rand(COUNT, 15, generator=generator) < 0.7
    parts = project(PARTS.expand(COUNT, -1, -1), camera)
    return {
        "image": torch.stack((x, y, torch.zeros_like(x))).expand(COUNT, 3, SIZE, SIZE).clone(),
        "mask": (x > 0).expand(COUNT, SIZE, SIZE),
        "camera": camera,
        "parts": torch.where(visible[..., None], parts, 0.0),
        "parts_visible": visible,
        "crop": crop,
        "flipped": torch.zeros(COUNT, dtype=torch.bool),
        "index": torch.arange(COUNT),
    }


def reprojection(batch) -> float:
    distance = (project(PARTS.expand(COUNT, -1, -1), batch["camera"]) - batch["parts"]).norm(dim=-1)
    return distance[batch["parts_visible"]].max().item()


def test_mirror_names_are_those_of_cub():
    assert [k + 1 for k in MIRROR] == [1, 2, 3, 4, 5, 6, 11, 12, 13, 10, 7, 8, 9, 14, 15]
    with pytest.raises(ValueError, match="both sides"):
        mirror_names(("left eye", "beak"))


def test_recrop_keeps_everything_together(batch):
    crop = Crop(torch.linspace(1.2, 1.7, COUNT), torch.linspace(-0.2, 0.1, 2 * COUNT).reshape(COUNT, 2))
    photo_parts = undo_crop(batch["parts"], batch["crop"])
    result = recrop_batch(batch, crop, size=20)
    assert reprojection(result) < 1e-5
    visible = batch["parts_visible"]
    assert torch.allclose(apply_crop(photo_parts, result["crop"])[visible], result["parts"][visible], atol=1e-4)
    assert not result["parts"][~visible].any()
    # The picture holds its own old coordinates: they map to where the pixel is now.
    pixels = torch.stack(torch.meshgrid(torch.arange(20) + 0.5, torch.arange(20) + 0.5, indexing="xy"), -1)
    place = pixels_to_normalized(pixels.reshape(-1, 2), (20, 20)).expand(COUNT, -1, -1)
    old = result["image"][:, :2].flatten(2).mT
    assert (apply_crop(old, crop) - place).abs().max() < 1e-4
    assert torch.equal(result["mask"], result["image"][:, 0] > 0)
    assert result["mask"].dtype == torch.bool


def test_recrop_fills_outside(batch):
    wide = Crop(torch.full((COUNT,), 0.5), torch.zeros(COUNT, 2))
    result = recrop_batch(batch, wide, size=16, fill=0.25)
    assert torch.equal(result["image"][:, :, 0, 0], torch.full((COUNT, 3), 0.25))
    assert not result["mask"][:, :, :4].any()
    assert not result["mask"][:, :, 12:].any()
    assert result["mask"][:, 5, 11].all()


def test_flip_mirrors_everything(batch):
    where = torch.arange(COUNT) % 2 == 0
    result = flip_batch(batch, where, part_mirror=MIRROR)
    assert reprojection(result) < 1e-5
    assert torch.equal(result["flipped"], where)
    assert torch.equal(result["image"][0], batch["image"][0].flip(-1))
    assert torch.equal(result["mask"][0], ~batch["mask"][0])
    assert torch.equal(result["parts_visible"][0], batch["parts_visible"][0][list(MIRROR)])
    for name in ("image", "mask", "parts", "index"):
        assert torch.equal(result[name][1], batch[name][1])
    assert torch.allclose(torch.linalg.det(result["camera"].rotation), torch.ones(COUNT))


def test_flip_twice_is_nothing(batch):
    where = torch.ones(COUNT, dtype=torch.bool)
    twice = flip_batch(flip_batch(batch, where, part_mirror=MIRROR), where, part_mirror=MIRROR)
    for name in ("image", "mask", "parts", "parts_visible", "flipped"):
        assert torch.equal(twice[name], batch[name]), name
    for one, other in zip(twice["camera"], batch["camera"], strict=True):
        assert torch.allclose(one, other)


def test_recrop_after_flip_is_flip_after_mirrored_recrop(batch):
    where = torch.arange(COUNT) % 2 == 0
    shift = torch.tensor([0.3, -0.1]).expand(COUNT, 2)
    crop = Crop(torch.full((COUNT,), 1.25), shift)
    result = recrop_batch(flip_batch(batch, where, part_mirror=MIRROR), crop, size=SIZE)
    assert reprojection(result) < 1e-5
    mirrored = Crop(crop.scale, torch.where(where[:, None], shift * torch.tensor([-1.0, 1.0]), shift))
    other = flip_batch(recrop_batch(batch, mirrored, size=SIZE), where, part_mirror=MIRROR)
    for one, two in zip(result["crop"], other["crop"], strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    assert torch.allclose(result["image"], other["image"], atol=1e-5)
    assert torch.allclose(result["parts"], other["parts"], atol=1e-6)


def test_flip_mirrors_vertices(batch):
    vertices = torch.tensor([[0.3, 0.1, 0.2], [-0.4, 0.1, 0.2], [0.0, 1.0, 0.0]]).expand(COUNT, 3, 3)
    before = project(vertices, batch["camera"])
    result = flip_batch(
        {"camera": batch["camera"], "vertices": vertices},
        torch.ones(COUNT, dtype=torch.bool),
        vertex_mirror=torch.tensor([1, 0, 2]),
    )
    after = project(result["vertices"], result["camera"])
    assert torch.allclose(after[:, [1, 0, 2]] * torch.tensor([-1.0, 1.0]), before, atol=1e-6)


def test_flip_says_what_it_needs(batch):
    with pytest.raises(ValueError, match="part_mirror"):
        flip_batch(batch, torch.ones(COUNT, dtype=torch.bool))


def test_jitter_stays_within_its_bounds(batch):
    padding, jitter = 0.05, 0.05
    transform = RandomCropJitter(20, padding=padding, jitter=jitter, margin=padding + 2 * jitter)
    many = {
        "image": batch["image"][:1].expand(2000, 3, SIZE, SIZE),
        "crop": Crop(torch.ones(2000), torch.zeros(2000, 2)),
    }
    result = transform(many)
    assert result["image"].shape == (2000, 3, 20, 20)
    # Corners of the crops in shares of the box's longer side from its center.
    low, high = undo_crop(torch.tensor([[-1.0, -1.0], [1.0, 1.0]]).expand(2000, 2, 2), result["crop"]).unbind(1)
    whole = 1 + 2 * (padding + 2 * jitter)
    side, center = (high - low)[:, 0] * whole / 2, (low + high) / 2 * whole / 2
    assert side.min() > 1
    assert side.max() < 1.2
    assert side.mean().sub(1.1).abs() < 0.005
    assert center.abs().max() <= jitter
    assert center.abs().max() > 0.8 * jitter
    assert center.mean(0).abs().max() < 0.003
    # With this margin nothing outside the incoming crops is seen.
    assert low.min() >= -1
    assert high.max() <= 1


def test_jitter_keeps_parts_and_camera_together(batch):
    result = RandomFlip(0.5, part_mirror=MIRROR)(RandomCropJitter(24, jitter=0.1, margin=0.25)(batch))
    assert reprojection(result) < 1e-5
    assert result["flipped"].any()
    assert not result["flipped"].all()


def test_transforms_repeat_with_the_seed(batch):
    transform = torch.nn.Sequential(RandomCropJitter(24), RandomFlip(part_mirror=MIRROR), RandomColor(0.3))
    batch["image"] = batch["image"].clamp(0, 1)
    torch.manual_seed(3)
    first = transform(batch)
    torch.manual_seed(3)
    again = transform(batch)
    other = transform(batch)
    assert torch.equal(first["image"], again["image"])
    assert not torch.equal(first["image"], other["image"])
    assert first["image"].min() >= 0
    assert first["image"].max() <= 1
