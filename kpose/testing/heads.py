"""The contract of pose heads."""

from collections.abc import Callable

import torch

from kpose.geometry import random_rotation
from kpose.heads import PoseHead, RotationHead
from kpose.structures import Batch, Camera, Features, FeatureSpec, PosePrediction, Template
from kpose.templates import bird
from kpose.testing.expect import expect_camera, expect_rotation, expecting

__all__ = ["check_pose_head", "example_batch"]

_expect = expecting("A pose head")

_SPEC = FeatureSpec(channels=(8, 16, 24, 32), strides=(4, 8, 16, 32))
_SIZE = 64
_START_GAIN = (0.01, 100.0)  # how much a rotation may turn for a small change of the numbers that it starts from


def example_batch(size: int, *, seed: int = 0) -> Batch:
    """Make a batch of noise with an entry for everything that a camera-supervised head may read.

    Args:
        size: Number of images.
        seed: Seed of the noise.

    Returns:
        ``image``, ``mask``, ``camera`` and ``index``.

    Example:
        >>> sorted(example_batch(2))
        ['camera', 'image', 'index', 'mask']
    """
    generator = torch.Generator().manual_seed(seed)
    camera = Camera(
        0.6 + 0.2 * torch.rand(size, generator=generator),
        0.2 * torch.rand(size, 2, generator=generator) - 0.1,
        random_rotation((size,), generator=generator),
    )
    return Batch(
        image=torch.rand(size, 3, _SIZE, _SIZE, generator=generator),
        mask=torch.rand(size, _SIZE, _SIZE, generator=generator) > 0.5,
        camera=camera,
        index=torch.arange(size),
    )


def check_pose_head(
    factory: Callable[[FeatureSpec, Template], PoseHead], *, make_batch: Callable[[int], Batch] = example_batch
) -> None:
    """Check that a head keeps the contract of `PoseHead`.

    Rotations are in SO(3); losses are finite scalars; every parameter gets a finite gradient; the batch has what
    ``supervision`` names; batches of one and of three work; evaluation is deterministic; the state dict restores
    the head; bfloat16 autocast works, and so do weights in bfloat16 and float64; only heads with ``reads_shapes``
    give other poses for other vertices; ``camera_of`` gives the predicted camera, with gradients. A `RotationHead`
    is asked in addition for a ``to_rotation`` with right gradients, finite at zero, at its start and at collinear
    columns, and for a start from which every small turn can be reached.

    Args:
        factory: Builds the head from a `FeatureSpec` and a `Template`, as the task does; a head class is such a
            callable.
        make_batch: Makes a batch of a given size; give your own when the head reads entries that
            `example_batch` lacks.

    Raises:
        AssertionError: If the head breaks a rule; the message names it.

    Example:
        >>> from kpose.heads import QuaternionHead
        >>> check_pose_head(QuaternionHead)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = factory(_SPEC, bird())
        if isinstance(head, RotationHead):
            _check_representation(head)
        for size in (1, 3):
            _check_training(head.train(), size, make_batch(size))
        _check_evaluation(head.eval(), factory)
        _check_precision(factory(_SPEC, bird()), make_batch(3))


def _features(size: int, seed: int = 1) -> Features:
    generator = torch.Generator().manual_seed(seed)
    cells = [_SIZE // stride for stride in _SPEC.strides]
    maps = [torch.randn(size, c, n, n, generator=generator) for c, n in zip(_SPEC.channels, cells, strict=True)]
    return Features(tuple(maps))


def _expect_camera(prediction: PosePrediction, size: int, where: str) -> None:
    _expect(isinstance(prediction, PosePrediction), f"to return a PosePrediction; got {type(prediction).__name__}")
    expect_camera(_expect, prediction.camera, size, where)


def _check_training(head: PoseHead, size: int, batch: Batch) -> None:
    where = f"in training mode with a batch of {size}"
    missing = sorted(head.supervision - batch.keys())
    _expect(not missing, f"a `supervision` that batches have; {missing} are not in {sorted(batch)}")
    head.zero_grad()
    prediction = head(_features(size))
    _expect_camera(prediction, size, where)
    losses = head.losses(prediction, batch)
    _expect(len(losses) > 0, "at least one loss")
    for name, loss in losses.items():
        _expect(loss.shape == () and loss.isfinite(), f"losses that are finite scalars {where}; {name!r} is {loss}")
    torch.autograd.backward(list(losses.values()))
    for name, parameter in head.named_parameters():
        if parameter.requires_grad:
            _expect(parameter.grad is not None, f"a gradient for every parameter {where}; {name!r} has none")
            assert parameter.grad is not None
            _expect(parameter.grad.isfinite().all(), f"finite gradients {where}; that of {name!r} is not")


def _check_evaluation(head: PoseHead, factory: Callable[[FeatureSpec, Template], PoseHead]) -> None:
    features = _features(3)
    with torch.no_grad():
        first, second = head(features).camera, head(features).camera
        _expect(_equal(first, second), "the same result twice in evaluation mode")
        single = head(features.at(slice(1))).camera
        _expect_camera(head(features), 3, "in evaluation mode")
        _expect(
            torch.allclose(single.rotation, first.rotation[:1], atol=1e-3),
            "a result in evaluation mode that does not depend on the other images of the batch",
        )
        twin = factory(_SPEC, bird()).eval()
        twin.load_state_dict(head.state_dict())
        _expect(_equal(twin(features).camera, first), "all that it has learned in its state dict")
        with torch.autocast("cpu", torch.bfloat16):
            half = head(features)
        _expect_camera(half, 3, "under bfloat16 autocast")
        if not head.reads_shapes:
            shrunk = 0.5 * bird().vertices.expand(3, -1, -1)
            _expect(_equal(head(features, shrunk).camera, first), "`reads_shapes`, since its poses depend on them")
    prediction = head(features)
    camera = head.camera_of(prediction)
    close = all(torch.allclose(a, b, atol=1e-4) for a, b in zip(camera, prediction.camera, strict=True))
    _expect(close, "a `camera_of` that returns the predicted camera")
    _expect(camera.scale.requires_grad and camera.translation.requires_grad, "a `camera_of` with gradients")


def _check_precision(head: PoseHead, batch: Batch) -> None:
    for dtype in (torch.bfloat16, torch.float64):
        where = f"with weights in {str(dtype).removeprefix('torch.')}"
        prediction = head.to(dtype)(_features(len(batch["image"])).to(dtype))
        _expect_camera(prediction, len(batch["image"]), where)
        for name, loss in head.losses(prediction, batch).items():
            _expect(loss.isfinite(), f"losses that are finite {where}; {name!r} is {loss}")


def _equal(first: Camera, second: Camera) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def _check_representation(head: RotationHead) -> None:
    size = head.representation_size
    start = torch.tensor(head.representation_start or (0.0,) * size)
    _expect(len(start) == size, f"a `representation_start` of {size} numbers; got {len(start)}")
    expect_rotation(_expect, head.to_rotation(start), "at its `representation_start`")
    # Three directions that turn the rotation by amounts of a moderate size: neither stuck nor about to jump.
    jacobian = torch.autograd.functional.jacobian(head.to_rotation, start.double())  # type: ignore[no-untyped-call]
    _expect(
        jacobian.isfinite().all(),
        f"a `representation_start` where `to_rotation` has a finite gradient; that at {start.tolist()} is not",
    )
    turns = torch.linalg.svdvals(jacobian.reshape(9, size))[:3]
    _expect(
        len(turns) == 3 and (turns > _START_GAIN[0]).all() & (turns < _START_GAIN[1]).all(),
        f"a `representation_start` from which every small turn can be reached; it turns by {turns.tolist()}",
    )
    raw = torch.randn(5, size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expect_rotation(_expect, head.to_rotation(raw), "for any raw numbers")
    _expect(
        torch.autograd.gradcheck(head.to_rotation, (raw.requires_grad_(),), raise_exception=False),
        "a `to_rotation` with the gradient of what it computes",
    )
    one = torch.ones(size)
    degenerate = torch.stack((0 * one, start, one, torch.eye(size)[0], 1e-8 * one))
    degenerate.requires_grad_()
    rotation = head.to_rotation(degenerate)
    for numbers, matrix in zip(degenerate.tolist(), rotation, strict=True):
        expect_rotation(_expect, matrix, f"for degenerate raw numbers, here {numbers}")
    (gradient,) = torch.autograd.grad((rotation * torch.arange(9.0).view(3, 3)).sum(), degenerate)
    _expect(gradient.isfinite().all(), "finite gradients of `to_rotation` at degenerate raw numbers")
