"""A user's own pose head: 16 lines, outside the kpose package, registered nowhere."""

from jaxtyping import Float
from torch import Tensor

from kpose.geometry import axis_angle_to_matrix
from kpose.heads import RotationHead


class AxisAngleHead(RotationHead):
    """Regress an axis times an angle in radians."""

    representation_size = 3

    def to_rotation(self, raw: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
        """Take the exponential map."""
        return axis_angle_to_matrix(raw)
