import pytest
import torch

from kpose.geometry import random_rotation
from kpose.heads import GramSchmidtHead, ProcrustesHead, QuaternionHead, RotationHead
from kpose.structures import Camera, Features, FeatureSpec
from kpose.testing import example_batch

SPEC = FeatureSpec((8, 16), (16, 32))
HEADS = [QuaternionHead, GramSchmidtHead, ProcrustesHead]


def features(size=4):
    return Features((torch.randn(size, 8, 8, 8), torch.randn(size, 16, 4, 4)))


@pytest.mark.parametrize("head", HEADS)
def test_starts_near_the_identity_and_a_sensible_scale(head):
    camera = head(SPEC)(features()).camera
    assert torch.allclose(camera.rotation, torch.eye(3).expand(4, 3, 3), atol=0.3)
    assert torch.allclose(camera.scale, torch.full((4,), 0.75), atol=0.2)
    assert camera.translation.abs().max() < 0.2


@pytest.mark.parametrize("head", HEADS)
def test_losses_vanish_at_the_true_camera(head):
    batch = example_batch(4)
    head = head(SPEC, rotation_weight=2.0)
    prediction = head(features())
    assert all(loss > 0 for loss in head.losses(prediction, batch).values())
    twin = {**batch, "camera": Camera(*(part.detach() for part in prediction.camera))}
    assert all(loss < 1e-6 for loss in head.losses(prediction, twin).values())


@pytest.mark.parametrize("head", HEADS)
def test_learns_fixed_cameras(head):
    torch.manual_seed(0)
    inputs, batch = features(6), example_batch(6)
    batch["camera"] = batch["camera"]._replace(rotation=random_rotation((6,)))
    head = head(SPEC)
    optimizer = torch.optim.Adam(head.parameters(), 6e-3)
    for _ in range(80):
        optimizer.zero_grad()
        loss = sum(head.losses(head(inputs), batch).values())
        loss.backward()
        optimizer.step()
    assert loss < 0.01


def test_weights_scale_their_terms():
    inputs, batch = features(), example_batch(4)
    plain, heavy = QuaternionHead(SPEC), QuaternionHead(SPEC, scale_weight=3.0)
    heavy.load_state_dict(plain.state_dict())
    first, second = (head.losses(head(inputs), batch) for head in (plain, heavy))
    assert torch.allclose(second["scale"], 3 * first["scale"])
    assert torch.equal(second["rotation"], first["rotation"])


def test_a_head_without_size_says_so():
    class Forgetful(RotationHead):
        def to_rotation(self, raw):
            return raw

    with pytest.raises(TypeError, match="Forgetful needs a class attribute `representation_size`"):
        Forgetful(SPEC)


def test_one_map_is_enough():
    head = QuaternionHead(FeatureSpec((16,), (32,)))
    assert head(Features((torch.randn(2, 16, 3, 5),))).camera.scale.shape == (2,)
