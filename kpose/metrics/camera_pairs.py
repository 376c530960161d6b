"""The state that metrics of rotations share."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kpose.structures import Camera

__all__: list[str] = []


class CameraPairs(Metric):
    """Metric that keeps the predicted and true rotations of all images: 72 bytes an image."""

    is_differentiable = False
    full_state_update = False

    rotations: list[Tensor] | Tensor
    target_rotations: list[Tensor] | Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rotations", [], dist_reduce_fx="cat")
        self.add_state("target_rotations", [], dist_reduce_fx="cat")

    def update(self, camera: Camera, target_camera: Camera) -> None:
        """Add a batch of images.

        Args:
            camera: Predicted cameras, with one leading dimension.
            target_camera: True cameras.
        """
        # Flat, in float32: torchmetrics gathers a process without images as an empty vector of that type.
        self.rotations.append(camera.rotation.detach().float().flatten())  # type: ignore[union-attr]
        self.target_rotations.append(target_camera.rotation.detach().float().flatten())  # type: ignore[union-attr]

    def pairs(self) -> tuple[Float[Tensor, "N 3 3"], Float[Tensor, "N 3 3"]]:
        """Return the predicted and the true rotations of all images, of all processes after a synchronization."""
        if len(self.rotations) == 0:
            return torch.zeros(0, 3, 3, device=self.device), torch.zeros(0, 3, 3, device=self.device)
        rotation: Tensor = dim_zero_cat(self.rotations)
        target: Tensor = dim_zero_cat(self.target_rotations)
        return rotation.reshape(-1, 3, 3), target.reshape(-1, 3, 3)
