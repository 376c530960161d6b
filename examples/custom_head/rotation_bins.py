"""A user's own pose head in 38 lines: choose one of the grid's 40 viewpoints, and regress the turn out of it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

from kpose.geometry import axis_angle_to_matrix
from kpose.heads import RotationHead, RotationPrediction
from kpose.losses import chordal_distance
from kpose.reconstruction import ViewpointGrid
from kpose.structures import Batch

GRID = ViewpointGrid().rotations()


class RotationBinsHead(RotationHead):
    """Predict for each viewpoint of the grid a score, and an axis times an angle in radians."""

    representation_size = 4 * len(GRID)

    def to_rotation(self, raw: Float[Tensor, "*batch R"]) -> Float[Tensor, "*batch 3 3"]:
        """Turn out of the viewpoint with the highest score."""
        return self.turned(raw, raw[..., ::4].argmax(-1))

    def turned(self, raw: Float[Tensor, "*batch R"], bins: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
        """Turn out of given viewpoints."""
        turns = torch.take_along_dim(raw.reshape(*bins.shape, -1, 4), bins[..., None, None], -2)[..., 0, 1:]
        return axis_angle_to_matrix(turns) @ GRID.to(raw)[bins]

    def losses(self, prediction: RotationPrediction, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Classify the nearest viewpoint and regress the turn out of that one, whatever the scores say."""
        target = batch["camera"].rotation
        nearest = torch.einsum("nij,pij->np", target, GRID.to(target)).argmax(-1)
        turn = chordal_distance(self.turned(prediction.raw, nearest), target).mean()
        terms = {"rotation": self.rotation_weight * turn, "bin": cross_entropy(prediction.raw[:, ::4], nearest)}
        return {**super().losses(prediction, batch), **terms}
