"""DAVIS measures of mask tracks: the Jaccard index of every frame, its mean, recall and decay."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from kpose.geometry import mask_iou

__all__ = ["VideoJaccard"]

_NUM_BINS = 4
_NAMES = ("jaccard_mean", "jaccard_recall", "jaccard_decay")


def _jaccard_statistics(values: Float[Tensor, "T"], *, threshold: float = 0.5) -> Float[Tensor, "3"]:
    """Compute mean, recall and decay of the indices of one object over time; NaN without frames."""
    if len(values) == 0:
        return values.new_full((3,), torch.nan)
    # The toolkit moves the ends by 1e-10, so that halves are rounded up.
    ends = torch.linspace(1, len(values), _NUM_BINS + 1, dtype=torch.float64).add(1e-10).round().long() - 1
    first, last = values[: ends[1] + 1], values[ends[-2] :]
    return torch.stack((values.mean(), (values > threshold).to(values).mean(), first.mean() - last.mean()))


class VideoJaccard(Metric):
    """Jaccard mean, recall and decay of mask tracks: over the objects of a sequence, then over sequences.

    The index of each frame is kept with its sequence, object and frame number (16 bytes), so that frames may come
    in any order and from several processes, and a frame that comes twice counts once. The first and last frame of
    each sequence are left out, as the benchmark does. Where neither the track nor the annotation has a pixel the
    index is 1, where only one has, 0. Before the first update `compute` warns and gives NaN; a sequence of fewer
    than three frames is NaN.

    Args:
        sequences: Names of the sequences, in an order that all processes share.
        threshold: Index that a frame must exceed to count for the recall.

    Raises:
        ValueError: If there are no sequences, or two of the same name.

    Source:
        Perazzi et al., A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation, CVPR 2016, and
        its toolkit of 2017, whose ends of the quarters wrap around after 255 frames: here they do not. The toolkit
        averages over all objects at once, the paper of kpose's Table 2 over sequences. With one object a sequence
        the two are the same.

    Example:
        >>> metric = VideoJaccard(["robin"])
        >>> for frame, mask in enumerate(torch.ones(4, 8, 8).tril()):
        ...     metric.update(mask, mask, sequence="robin", object_id=1, frame=frame)
        >>> metric.compute()["jaccard_mean"]
        tensor(1.)
    """

    is_differentiable = False
    full_state_update = False

    entries: list[Tensor] | Tensor

    def __init__(self, sequences: Sequence[str], *, threshold: float = 0.5) -> None:
        super().__init__()
        self.sequences = tuple(sequences)
        if not self.sequences or len(set(self.sequences)) < len(self.sequences):
            raise ValueError(f"VideoJaccard needs names of sequences, each once; got {list(self.sequences)}.")
        self.threshold = threshold
        self.add_state("entries", [], dist_reduce_fx="cat")

    def update(
        self,
        mask: Float[Tensor, "H W"] | Bool[Tensor, "H W"],
        target_mask: Float[Tensor, "H W"] | Bool[Tensor, "H W"],
        *,
        sequence: str,
        object_id: int,
        frame: int,
    ) -> None:
        """Add one object in one frame.

        Args:
            mask: Its mask at the size of the frame; all zero where nothing was found.
            target_mask: Annotated mask.
            sequence: Name of the sequence.
            object_id: Identity of the object in the sequence.
            frame: Number of the frame, ascending with time.

        Raises:
            ValueError: If the sequence was not announced, or the masks differ in shape.
        """
        if sequence not in self.sequences:
            raise ValueError(f"VideoJaccard needs a sequence of {list(self.sequences)}; got {sequence!r}.")
        index = mask_iou(mask, target_mask, soft=False).float()
        # Flat, in float32: torchmetrics gathers a process without frames as an empty vector of that type.
        key = index.new_tensor([self.sequences.index(sequence), object_id, frame])
        self.entries.append(torch.cat((key, index[None])))  # type: ignore[union-attr]

    def compute(self) -> dict[str, Float[Tensor, ""]]:
        """Return the means over sequences.

        Returns:
            ``jaccard_mean``, ``jaccard_recall`` and ``jaccard_decay``; NaN without sequences.
        """
        found = [values.mean(0) for values in self._by_object().values()]
        mean = torch.stack(found).mean(0) if found else torch.full((3,), torch.nan, device=self.device)
        return dict(zip(_NAMES, mean.float(), strict=True))

    def per_sequence(self) -> dict[str, dict[str, Float[Tensor, ""]]]:
        """Return the means over the objects of each sequence, of all processes.

        Returns:
            The entries of `compute`, by the names of the sequences that were seen.
        """
        with self.sync_context(should_sync=not self._is_synced, should_unsync=not self._is_synced):
            found = self._by_object()
        return {name: dict(zip(_NAMES, values.mean(0).float(), strict=True)) for name, values in found.items()}

    def _by_object(self) -> dict[str, Float[Tensor, "objects 3"]]:
        """Compute the statistics of each object, by the name of its sequence."""
        if len(self.entries) == 0:
            return {}
        entries: Tensor = dim_zero_cat(self.entries).double().reshape(-1, 4)
        latest = {(int(s), int(o), int(f)): value for s, o, f, value in entries.tolist()}
        tracks: dict[int, dict[int, list[tuple[int, float]]]] = {}
        for (sequence, thing, frame), value in sorted(latest.items()):
            tracks.setdefault(sequence, {}).setdefault(thing, []).append((frame, value))
        found = {}
        for sequence, objects in tracks.items():
            frames = [frame for track in objects.values() for frame, _ in track]
            ends = {min(frames), max(frames)}
            inner = [[value for frame, value in track if frame not in ends] for track in objects.values()]
            rows = [_jaccard_statistics(entries.new_tensor(track), threshold=self.threshold) for track in inner]
            found[self.sequences[sequence]] = torch.stack(rows)
        return found
