import pytest
import torch

from kpose.geometry import random_rotation
from kpose.structures import Camera
from kpose.testing.expect import expect_camera, expect_rotation, expecting


def camera() -> Camera:
    return Camera(torch.ones(3), torch.zeros(3, 2), random_rotation((3,)))


def test_what_is_kept_passes_and_what_is_broken_names_the_part() -> None:
    expect = expecting("MyHead")
    expect(True, "anything")
    expect(torch.tensor(True), "anything")
    expect_camera(expect, camera(), 3, "in training")
    with pytest.raises(AssertionError, match=r"^MyHead needs a smile\.$"):
        expect(torch.tensor(False), "a smile")


@pytest.mark.parametrize(
    ("broken", "rule"),
    [
        ({"scale": torch.ones(2)}, "a camera for every image"),
        ({"scale": torch.tensor([1.0, 0.0, 1.0])}, "positive scales"),
        ({"translation": torch.full((3, 2), torch.nan)}, "finite translations"),
        ({"rotation": -torch.eye(3).expand(3, 3, 3)}, "rotations in SO"),
        ({"rotation": 1.01 * torch.eye(3).expand(3, 3, 3)}, "rotations in SO"),
    ],
)
def test_cameras_that_are_not_sound_are_found(broken: dict[str, torch.Tensor], rule: str) -> None:
    with pytest.raises(AssertionError, match=f"MyHead needs .*{rule}.* in training"):
        expect_camera(expecting("MyHead"), camera()._replace(**broken), 3, "in training")


def test_a_rotation_that_is_not_finite_is_found() -> None:
    with pytest.raises(AssertionError, match="rotations in SO"):
        expect_rotation(expecting("MyHead"), torch.full((1, 3, 3), torch.nan), "anywhere")
