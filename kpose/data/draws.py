"""Random numbers for synthetic pictures: each picture has its own streams, whatever its batch."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Draws"]


class Draws:
    """Draw random numbers for a batch in which every row depends on the seed and its own index alone.

    Args:
        seed: Seed of the data set, not negative.
        indices: One number a row, not negative.
        stream: Number of the stream: rows of another stream are independent.

    Example:
        >>> alone, among = Draws(0, [7]).uniform(2), Draws(0, [3, 7]).uniform(2)
        >>> torch.equal(alone[0], among[1])
        True
    """

    def __init__(self, seed: int, indices: Sequence[int], stream: int = 0) -> None:
        self.generators: list[torch.Generator] = []
        for index in indices:
            state = np.random.SeedSequence([seed, index, stream]).generate_state(1, np.uint64)[0]
            self.generators.append(torch.Generator().manual_seed(int(state) & (2**63 - 1)))

    def uniform(self, *size: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "batch ..."]:
        """Draw from ``[low, high)``; the result has the shape ``(batch, *size)``."""
        unit = torch.stack([torch.rand(size, generator=generator) for generator in self.generators])
        return low + (high - low) * unit

    def normal(self, *size: int, mean: float = 0.0, sd: float = 1.0) -> Float[Tensor, "batch ..."]:
        """Draw from a normal distribution; the result has the shape ``(batch, *size)``."""
        unit = torch.stack([torch.randn(size, generator=generator) for generator in self.generators])
        return mean + sd * unit

    def integers(self, count: int, *size: int) -> Int[Tensor, "batch ..."]:
        """Draw from ``0 … count - 1``; the result has the shape ``(batch, *size)``."""
        return torch.stack([torch.randint(count, size, generator=generator) for generator in self.generators])

    def rows(self) -> list["Draws"]:
        """Split into one `Draws` of one row each, which go on where these stand."""
        rows = []
        for generator in self.generators:
            row = Draws.__new__(Draws)
            row.generators = [generator]
            rows.append(row)
        return rows
