"""Schedules of the learning rate beside those of torch."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

__all__ = ["one_cycle"]


def one_cycle(optimizer: Optimizer, steps: int) -> LRScheduler:
    """Return a schedule that warms up for a tenth of the steps and then falls, as a cosine, to nearly zero.

    A pretrained backbone that is trained along needs the warm-up: the gradients of an untrained head say little.

    Args:
        optimizer: Optimizer, whose learning rates are the peaks.
        steps: Steps of the whole training.

    Returns:
        Schedule that is advanced at every step.

    Source:
        Smith and Topin, Super-Convergence, 2017.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        >>> schedule = one_cycle(optimizer, 20)
        >>> optimizer.param_groups[0]["lr"] < 0.1
        True
    """
    return OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], steps, pct_start=0.1)
