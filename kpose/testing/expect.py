"""How a broken rule is reported, and what several contracts check."""

from collections.abc import Callable

import torch
from torch import Tensor

from kpose._precision import widened
from kpose.structures import Camera

__all__: list[str] = []

Expect = Callable[[bool | Tensor, str], None]


def expecting(part: str) -> Expect:
    """Return a function that raises an AssertionError where a rule for a part is broken."""

    def expect(kept: bool | Tensor, rule: str) -> None:
        if not kept:
            raise AssertionError(f"{part} needs {rule}.")

    return expect


def expect_rotation(expect: Expect, rotation: Tensor, where: str) -> None:
    """Check that matrices are rotations."""
    rotation = widened(rotation)
    identity = torch.eye(3, dtype=rotation.dtype)
    error = (rotation.mT @ rotation - identity).abs().amax() + (torch.linalg.det(rotation) - 1).abs().amax()
    expect(error < 1e-4, f"rotations in SO(3) {where}; they are off by {error:.1e}")


def expect_camera(expect: Expect, camera: Camera, size: int, where: str) -> None:
    """Check that there is a sound camera for every image of a batch."""
    shapes = [tuple(part.shape) for part in camera]
    expect(shapes == [(size,), (size, 2), (size, 3, 3)], f"a camera for every image {where}; got shapes {shapes}")
    sound = (camera.scale > 0).all() & camera.translation.isfinite().all()
    expect(sound, f"positive scales and finite translations {where}")
    expect_rotation(expect, camera.rotation, where)
