"""How sure poses are: what a calibration learns, that it is monotone, and that it travels with the network."""

from dataclasses import fields
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kpose.backbones import TinyBackbone
from kpose.heads import QuaternionHead
from kpose.inference import Calibration, Predictor, fit_calibration
from kpose.inference.calibration import CHANCE_DEG, pose_signals
from kpose.network import PoseNetwork


def draw(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Draw signals, the first of which tells the error but for noise."""
    generator = torch.Generator().manual_seed(seed)
    signals = torch.randn(count, 6, generator=generator) * torch.tensor([1.0, 5, 0.1, 1, 1, 1]) + 3
    noise = torch.randn(count, generator=generator)
    return signals, 25 * (0.7 * (signals[:, 0] - 3) + 0.3 * noise).exp()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit_calibration(*draw(1000))


def test_errors_are_foretold_on_pictures_that_were_not_fitted(calibration: Calibration) -> None:
    signals, errors = draw(2000, seed=1)
    found = calibration(signals)
    sure = found.score >= 0.5
    assert float((errors[sure] < 30).float().mean()) > 0.85
    assert float((errors[~sure] < 30).float().mean()) < 0.2
    assert float(found.expected_error_deg.mean()) == pytest.approx(float(errors.mean()), rel=0.15)
    for low in (0.1, 0.3, 0.5, 0.7):  # a score is a share
        those = (found.score >= low) & (found.score < low + 0.2)
        assert float((errors[those] < 30).float().mean()) == pytest.approx(low + 0.1, abs=0.17)


def test_both_numbers_are_monotone(calibration: Calibration) -> None:
    assert (calibration.knots.diff() > 0).all()
    assert (calibration.errors_deg.diff() >= 0).all()
    assert (calibration.likelihoods.diff() <= 0).all()
    signals = torch.full((41, 6), 3.0)
    signals[:, 0] += torch.linspace(-2, 2, 41)
    found = calibration(signals)
    assert (found.expected_error_deg.diff() >= 0).all()
    assert (found.score.diff() <= 0).all()
    assert ((found.score >= 0) & (found.score <= 1)).all()


def test_strange_and_broken_signals_are_not_sure(calibration: Calibration) -> None:
    signals = torch.full((3, 6), 3.0)
    signals[0, 0] -= 1
    signals[1, 0] -= 1
    signals[1, 2] += 5  # as likely as 50 standard deviations
    signals[2, 4] = torch.nan
    found = calibration(signals)
    assert found.score[0] > 0.7
    assert found.score[1:].tolist() == pytest.approx([0, 0], abs=1e-6)
    assert found.expected_error_deg[1:].tolist() == pytest.approx([CHANCE_DEG] * 2)


def test_a_row_does_not_depend_on_the_others(calibration: Calibration) -> None:
    signals, _ = draw(20)
    together = calibration(signals)
    for row in range(20):
        alone = calibration(signals[row : row + 1])
        torch.testing.assert_close(alone.score[0], together.score[row])


def test_too_few_photographs_and_those_of_another_network_are_refused(calibration: Calibration) -> None:
    with pytest.raises(ValueError, match="needs 60 photographs or more; got 59"):
        fit_calibration(*draw(59))
    with pytest.raises(ValueError, match=r"calibration of 6 signals needs the network .* got 4"):
        calibration(torch.zeros(1, 4))


def test_it_is_saved_and_loaded_with_its_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PoseNetwork(TinyBackbone(width=8), QuaternionHead).eval()
    pictures = [torch.rand(3, 50, 60) for _ in range(3)]
    with torch.no_grad():
        features = network.backbone(torch.rand(80, 3, 64, 64))
        signals = pose_signals(features, network.pose(features))
    fitted = fit_calibration(signals, torch.rand(80) * 90)
    predictor = Predictor(network, image_size=64, segmenter=None, calibration=fitted)
    predictor.save_pretrained(tmp_path)
    loaded = Predictor.from_pretrained(tmp_path, segmenter=None)
    assert loaded.calibration is not None
    for field in fields(fitted):
        assert torch.equal(getattr(loaded.calibration, field.name), getattr(fitted, field.name))
    for one, other in zip(predictor(pictures), loaded(pictures), strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-5)
        assert one.expected_error_deg == pytest.approx(other.expected_error_deg, abs=1e-3)
    # A network without one leaves none behind, and says nothing.
    Predictor(network, image_size=64, segmenter=None).save_pretrained(tmp_path)
    [silent] = Predictor.from_pretrained(tmp_path, segmenter=None)(pictures[0])
    assert silent.score is silent.expected_error_deg is silent.is_sure is None


def test_a_damaged_one_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "calibration.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"holds no calibration .* Calibrate again"):
        Calibration.load(tmp_path)
