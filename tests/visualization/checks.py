"""What the tests of pictures share."""

from torch import Tensor


def is_picture(image: Tensor, height: int, width: int) -> bool:
    return image.shape == (3, height, width) and bool(((image >= 0) & (image <= 1)).all())
