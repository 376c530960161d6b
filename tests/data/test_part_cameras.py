import torch
from fakes import PART_NAMES, PARTS, draw_cameras, seen_parts

from kpose.data.part_cameras import solve_part_cameras
from kpose.geometry import geodesic_distance, project
from kpose.structures import Camera


def observe(count: int) -> tuple[torch.Tensor, torch.Tensor, Camera]:
    generator = torch.Generator().manual_seed(0)
    camera = draw_cameras(count, generator)
    return project(PARTS.expand(count, -1, -1), camera), seen_parts(camera, generator, drop=0.0), camera


def test_cameras_of_exact_parts_are_found():
    points, visible, camera = observe(40)
    enough = visible.sum(1) >= 6
    found = solve_part_cameras(
        points[enough], visible[enough], PARTS, PART_NAMES, sizes=torch.full((int(enough.sum()),), 60.0)
    )
    expected = camera.at(enough)
    assert geodesic_distance(found.rotation, expected.rotation).rad2deg().median() < 0.5
    torch.testing.assert_close(found.scale.median(), expected.scale.median(), rtol=0.01, atol=0)
    # What cannot be seen is not read.
    hidden = torch.where(visible[..., None], points, torch.nan)
    again = solve_part_cameras(
        hidden[enough], visible[enough], PARTS, PART_NAMES, sizes=torch.full((int(enough.sum()),), 60.0)
    )
    assert torch.equal(found.rotation, again.rotation)


def test_no_images_have_no_cameras():
    camera = solve_part_cameras(
        torch.zeros(0, 15, 2), torch.zeros(0, 15, dtype=torch.bool), PARTS, PART_NAMES, sizes=torch.zeros(0)
    )
    assert camera.rotation.shape == (0, 3, 3)
