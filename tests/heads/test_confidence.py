import torch

from kpose.heads import KeypointHead
from kpose.heads.confidence import PeakConfidence
from kpose.structures import Features, FeatureSpec
from kpose.templates import bird
from kpose.testing import example_batch

SPEC = FeatureSpec((8, 16), (4, 8))


def features(size):
    return Features((torch.randn(size, 8, 16, 16), torch.randn(size, 16, 8, 8)))


def test_before_training_every_peak_is_as_likely_right_as_wrong():
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8)
    prediction = head(features(2))
    assert (prediction.confidence == 0.5).all()


def test_without_a_loss_the_height_tells():
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8, confidence_weight=0.0)
    prediction = head(features(2))
    assert prediction.logits is None
    assert torch.equal(prediction.confidence, prediction.heights)
    assert "confidence" not in head.losses(prediction, example_batch(2))


def test_the_loss_is_the_cross_entropy_of_what_is_in_sight():
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8, confidence_weight=2.0)
    torch.nn.init.normal_(head.confidence.weight)
    batch = example_batch(2)
    prediction = head(features(2))
    visible = head.self_supervision.visibility(prediction.vertices, batch["camera"])
    p = prediction.confidence
    expected = -torch.where(visible, p.log(), (1 - p).log()).mean()
    assert torch.allclose(head.losses(prediction, batch)["confidence"], 2 * expected)


def test_judging_peaks_does_not_change_them():
    head = KeypointHead(SPEC, bird(), num_keypoints=8, width=8)
    torch.nn.init.normal_(head.confidence.weight)
    head.losses(head(features(2)), example_batch(2))["confidence"].backward()
    assert all(p.grad is None or not p.grad.any() for p in head.network.parameters())
    assert all(p.grad.abs().sum() > 0 for p in head.confidence.parameters())


def test_each_keypoint_is_judged_by_the_features_at_its_own_peak():
    torch.manual_seed(0)
    confidence = PeakConfidence(3, 4)
    torch.nn.init.normal_(confidence.weight)
    maps, heights = torch.rand(1, 3, 8, 8), torch.rand(1, 3)
    peaks = torch.tensor([[[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5]]])
    inputs = torch.randn(1, 4, 8, 8)
    moved = inputs.clone()
    moved[0, :, 0:3, 4:8] += torch.tensor([1.0, -1, 1, -1])[:, None, None]
    moved[0, :, 3:5, 0:6] -= torch.tensor([1.0, -1, 1, -1])[:, None, None]  # keeps the mean of the image
    change = (confidence(moved, maps, peaks, heights) - confidence(inputs, maps, peaks, heights)).abs()[0]
    assert change[1] > 1e-3
    assert change[[0, 2]].max() < 1e-5


def test_what_can_be_told_is_learned():
    torch.manual_seed(0)
    confidence = PeakConfidence(4, 2)
    optimizer = torch.optim.Adam(confidence.parameters(), 0.02)
    for _ in range(150):
        inputs, peaks = torch.randn(16, 2, 8, 8), 2 * torch.rand(16, 4, 2) - 1
        heights = torch.rand(16, 4)
        logits = confidence(inputs, torch.rand(16, 4, 8, 8), peaks, heights)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, (heights > 0.5).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ((logits > 0) == (heights > 0.5)).float().mean() > 0.9
