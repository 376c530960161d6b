"""How sure a pose is: the error to expect, from what a network knows, as measured on photographs with cameras."""

import math
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from kpose._files import write_file
from kpose._messages import one_line
from kpose.heads import KeypointPrediction
from kpose.structures import Features, PosePrediction

__all__ = ["CALIBRATION_WEIGHTS", "Calibration", "Certainty", "fit_calibration", "pose_signals"]

CALIBRATION_WEIGHTS = "calibration.safetensors"
RIGHT_DEG = 30.0
CHANCE_DEG = math.degrees(math.pi / 2 + 2 / math.pi)
"""Mean angle between two random rotations."""

_FOLDS = 5
_BINS = 12
_PENALTIES = (0.3, 1.0, 3.0, 10.0)  # of ridge regression, in numbers of photographs
_SHRINKAGE = 0.1  # of the covariance to its diagonal
_MIN_DEG = 3.0  # errors below are all alike


@dataclass(frozen=True)
class Certainty:
    """How sure the poses of a batch are.

    Example:
        >>> Certainty(torch.tensor([12.0, 70.0]), torch.tensor([0.9, 0.1])).score > 0.5
        tensor([ True, False])
    """

    expected_error_deg: Float[Tensor, "batch"]
    """Mean error of rotation that poses like this one have, in degrees."""
    score: Float[Tensor, "batch"]
    """How likely the rotation is within 30° of the true one, in [0, 1]."""


@dataclass(frozen=True)
class Calibration:
    """Map from what a network knows of a pose to the error to expect.

    A linear function of `pose_signals` ranks poses; a monotone one, through knots, makes an error in degrees of it,
    and another the likelihood of less than 30°. Both hold for pictures like those of the fit: for others, told by
    the distance of their signals from these, the pose is taken for one by chance.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> signals = torch.randn(400, 3, generator=draw)
        >>> errors_deg = 20 * (0.8 * signals[:, 0] + 0.3 * torch.randn(400, generator=draw)).exp()
        >>> calibration = fit_calibration(signals, errors_deg)
        >>> calibration(signals[:5]).expected_error_deg.shape
        torch.Size([5])
    """

    mean: Float[Tensor, "S"]
    """Mean of the signals."""
    deviation: Float[Tensor, "S"]
    """Standard deviation of the signals."""
    weights: Float[Tensor, "S"]
    """Weights of the standardized signals in the rank of a pose."""
    whitening: Float[Tensor, "S S"]
    """Matrix that gives the standardized signals unit covariance."""
    distance: Float[Tensor, "2"]
    """Mean and standard deviation of the logarithm of the length of whitened signals."""
    knots: Float[Tensor, "K"]
    """Ranks between which errors and likelihoods are interpolated, ascending."""
    errors_deg: Float[Tensor, "K"]
    """Mean error at each knot, in degrees, not descending."""
    likelihoods: Float[Tensor, "K"]
    """Share of poses within 30° at each knot, not ascending."""

    def __call__(self, signals: Float[Tensor, "batch S"]) -> Certainty:
        """Estimate how sure poses are.

        Args:
            signals: What `pose_signals` returns for them; rows that are not finite are not sure at all.

        Returns:
            Expected errors and scores.

        Raises:
            ValueError: If the signals are those of another network.
        """
        if signals.shape[-1] != len(self.mean):
            raise ValueError(
                f"A calibration of {len(self.mean)} signals needs the network that it was fitted on; got "
                f"{signals.shape[-1]} signals. Calibrate this one."
            )
        standard = (signals - self.mean) / self.deviation
        rank = standard @ self.weights
        error, likelihood = (_interpolate(rank, self.knots, y) for y in (self.errors_deg, self.likelihoods))
        # Half of the trust at three standard deviations, little at four.
        typical = torch.special.ndtr(
            2 * (3 - (_log_length(standard @ self.whitening) - self.distance[0]) / self.distance[1])
        )
        known = signals.isfinite().all(-1)
        return Certainty(
            torch.where(known, torch.lerp(torch.full_like(error, CHANCE_DEG), error, typical), CHANCE_DEG),
            torch.where(known, typical * likelihood, 0.0),
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Write the calibration into the folder of the network that it was fitted on.

        Args:
            path: Folder; an earlier calibration in it is replaced.
        """
        tensors = {field.name: getattr(self, field.name).contiguous() for field in fields(self)}
        write_file(Path(path) / CALIBRATION_WEIGHTS, lambda fresh: save_file(tensors, fresh))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> "Calibration":
        """Read a folder that `save` has written into.

        Args:
            path: Folder.

        Returns:
            Calibration.

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If it is damaged.
        """
        try:
            return cls(**load_file(Path(path) / CALIBRATION_WEIGHTS))
        except (SafetensorError, TypeError) as error:
            raise ValueError(f"{path} holds no calibration ({one_line(error)[:300]}). Calibrate again.") from error


def pose_signals(features: Features, pose: PosePrediction) -> Float[Tensor, "batch S"]:
    """Collect what a network knows of the poses that it predicts.

    Args:
        features: Feature maps of its backbone.
        pose: What its head predicts.

    Returns:
        Means of the feature maps, rotation and scale; of keypoints also height and confidence, and the deviation of
        the rotation that they determine.
    """
    camera = pose.camera
    parts = [maps.float().mean((-2, -1)) for maps in features.maps]
    parts += [camera.rotation.flatten(1), camera.scale.clamp_min(1e-6).log()[:, None]]
    if isinstance(pose, KeypointPrediction):
        variance = pose.covariance[:, 3:, 3:].diagonal(dim1=-2, dim2=-1).sum(-1)
        parts += [pose.heights, pose.confidence, variance.clamp_min(1e-6).log()[:, None]]
    return torch.cat([part.float().cpu() for part in parts], -1)


def fit_calibration(signals: Float[Tensor, "n S"], errors_deg: Float[Tensor, "n"]) -> Calibration:
    """Fit a calibration to photographs whose errors are known.

    Ridge regression of the logarithm of the error ranks poses; what the ranks mean is read off photographs that the
    regression was not fitted to, in five folds.

    Args:
        signals: What `pose_signals` returns, photographs in random order.
        errors_deg: Errors of rotation, in degrees; at least 60.

    Returns:
        Calibration.

    Raises:
        ValueError: If there are fewer photographs.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> signals = torch.randn(400, 3, generator=draw)
        >>> errors = 20 * (0.8 * signals[:, 0] + 0.3 * torch.randn(400, generator=draw)).exp()
        >>> certainty = fit_calibration(signals, errors)(torch.tensor([[-1.5, 0, 0], [1.5, 0, 0], [99, 0, 0]]))
        >>> certainty.score[0] > 0.9, certainty.score[1] < 0.4, certainty.score[2] < 0.01
        (tensor(True), tensor(True), tensor(True))
    """
    count = len(signals)
    if count < _FOLDS * _BINS:
        raise ValueError(f"A calibration needs {_FOLDS * _BINS} photographs or more; got {count}. Give more.")
    target, fold = errors_deg.clamp_min(_MIN_DEG).log(), torch.arange(count) % _FOLDS
    ranks = torch.zeros(len(_PENALTIES), count)
    lengths = torch.zeros(count)
    for number in range(_FOLDS):
        others = fold != number
        mean, deviation = _standard(signals[others])
        known, unknown = (signals[others] - mean) / deviation, (signals[~others] - mean) / deviation
        for row, penalty in enumerate(_PENALTIES):
            ranks[row, ~others] = unknown @ _ridge(known, target[others], penalty)
        lengths[~others] = _log_length(unknown @ _whitening(known))
    best = int((ranks + target.mean() - target).square().mean(1).argmin())
    mean, deviation = _standard(signals)
    standard = (signals - mean) / deviation
    order = ranks[best].argsort()
    bins = order.tensor_split(_BINS)
    return Calibration(
        mean=mean,
        deviation=deviation,
        weights=_ridge(standard, target, _PENALTIES[best]),
        whitening=_whitening(standard),
        distance=torch.stack((lengths.mean(), lengths.std())),
        knots=torch.stack([ranks[best, rows].mean() for rows in bins]),
        errors_deg=_ascending(torch.stack([errors_deg[rows].mean() for rows in bins])),
        likelihoods=1 - _ascending(torch.stack([(errors_deg[rows] >= RIGHT_DEG).float().mean() for rows in bins])),
    )


def _standard(signals: Tensor) -> tuple[Tensor, Tensor]:
    return signals.mean(0), signals.std(0).clamp_min(1e-6)


def _ridge(standard: Float[Tensor, "n S"], target: Float[Tensor, "n"], penalty: float) -> Float[Tensor, "S"]:
    """Regress a target, without its mean, on standardized signals."""
    gram = standard.mT @ standard + penalty * len(standard) * torch.eye(standard.shape[1])
    weights: Tensor = torch.linalg.solve(gram, standard.mT @ (target - target.mean()))
    return weights


def _whitening(standard: Float[Tensor, "n S"]) -> Float[Tensor, "S S"]:
    covariance = torch.lerp(standard.mT.cov(), standard.var(0).diag(), _SHRINKAGE)
    root = torch.linalg.cholesky(covariance + 1e-4 * torch.eye(len(covariance)))
    inverse: Tensor = torch.linalg.inv(root)
    return inverse.mT


def _log_length(whitened: Float[Tensor, "n S"]) -> Float[Tensor, "n"]:
    length: Tensor = torch.linalg.vector_norm(whitened, dim=-1)
    return length.clamp_min(1e-6).log()


def _ascending(values: Float[Tensor, "K"]) -> Float[Tensor, "K"]:
    """Return the nearest values that do not descend: the minimax formula of isotonic regression."""
    count = len(values)
    sums = torch.cat((values.new_zeros(1), values.cumsum(0)))
    first, last = torch.arange(count)[:, None], torch.arange(count)
    means = (sums[1:] - sums[:-1, None]) / (last - first + 1).clamp_min(1)
    least = torch.where(last >= first, means, math.inf).flip(1).cummin(1).values.flip(1)
    return torch.where(last >= first, least, -math.inf).amax(0)


def _interpolate(
    x: Float[Tensor, "n"], knots: Float[Tensor, "K"], values: Float[Tensor, "K"]
) -> Float[Tensor, "n"]:
    """Interpolate linearly, and keep the end values beyond the ends."""
    right = torch.searchsorted(knots, x).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    share = ((x - low) / (high - low).clamp_min(1e-9)).clamp(0, 1)
    return torch.lerp(values[right - 1], values[right], share)
