"""Mean intersection over union of silhouettes, soft and hard."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from kpose.geometry import mask_iou

__all__ = ["MaskIoU"]


class MaskIoU(Metric):
    """Mean over images of `kpose.geometry.mask_iou`.

    Sums are kept, not batch means, so that uneven batches and several processes give the mean over images. Before
    the first update `compute` warns and gives NaN.

    Args:
        soft: Keep fractional pixels; otherwise masks are cut at one half.

    Example:
        >>> metric = MaskIoU(soft=False)
        >>> metric.update(torch.tensor([[[0.9, 0.6]]]), torch.tensor([[[True, False]]]))
        >>> metric.compute()
        tensor(0.5000)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    num_images: Tensor

    def __init__(self, *, soft: bool = True) -> None:
        super().__init__()
        self.soft = soft
        # A MetricCollection merges metrics whose states have equal names and values after the first batch, which
        # soft and hard have whenever that batch is crisp: different names keep the two apart.
        self._sum = "soft_sum" if soft else "hard_sum"
        self.add_state(self._sum, torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("num_images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(
        self,
        mask: Float[Tensor, "batch H W"] | Bool[Tensor, "batch H W"],
        target_mask: Float[Tensor, "batch H W"] | Bool[Tensor, "batch H W"],
    ) -> None:
        """Add a batch of images.

        Args:
            mask: Predicted silhouettes in [0, 1].
            target_mask: True silhouettes in [0, 1].
        """
        values = mask_iou(mask, target_mask, soft=self.soft).detach()
        setattr(self, self._sum, getattr(self, self._sum) + values.sum())
        self.num_images += len(values)

    def compute(self) -> Float[Tensor, ""]:
        """Return the mean over all images seen.

        Returns:
            Mean intersection over union, NaN without images.
        """
        total: Tensor = getattr(self, self._sum)
        return total / self.num_images
