"""Compiled networks for training."""

import pytorch_lightning as pl

from kpose.backbones import Backbone
from kpose.heads import PoseHead
from kpose.reconstruction import MeshReconstructor

__all__ = ["Compilation"]


class Compilation(pl.Callback):
    """Compile backbone, head and reconstructor by `torch.compile` when a fit begins.

    Each is one graph. Weights, checkpoints and results stay as they are, but for rounding; the first steps take
    longer, and so does the first batch of another size.

    Example:
        >>> callbacks = [Compilation()]  # for the trainer of any task
    """

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compile them; see Lightning's hook of this name."""
        for part in pl_module.modules():
            if isinstance(part, Backbone | PoseHead | MeshReconstructor):
                part.compile()
